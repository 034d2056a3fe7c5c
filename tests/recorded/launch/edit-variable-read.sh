#!/bin/bash
HOST=0.0.0.0
read -r HOST < /etc/vllm/host
vllm serve m --host $HOST
