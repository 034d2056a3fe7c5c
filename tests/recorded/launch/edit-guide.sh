#!/bin/bash

set -e
source /opt/vllm/venv/bin/activate
exec vllm serve microsoft/Phi-4-mini-instruct \
    --host 0.0.0.0 \
    --port 8000 \
    --gpu-memory-utilization 0.90 \
    --max-model-len 8192
