#!/bin/bash
vllm serve m --config /etc/vllm/config.yaml --host 0.0.0.0
