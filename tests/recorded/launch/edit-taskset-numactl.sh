#!/usr/bin/env bash
set -euo pipefail

CUDA_VISIBLE_DEVICES=4 \
PYTHONUNBUFFERED=1 \
HF_HOME=/opt/vllm/.cache \
nohup taskset -c 0 numactl --cpunodebind=1 --membind=1 \
  /opt/vllm/venv/bin/vllm serve \
  org/topics-qwen3 \
  --host 0.0.0.0 \
  --port 8000 \
  --dtype bfloat16 \
  --enforce-eager \
  > vllm.log 2>&1 &
wait
