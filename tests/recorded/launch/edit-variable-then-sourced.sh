#!/bin/bash
HOST=0.0.0.0
source /opt/vllm/local.conf
vllm serve m --host $HOST
