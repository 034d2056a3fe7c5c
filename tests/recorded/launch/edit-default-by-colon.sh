#!/usr/bin/env bash
set -euo pipefail

: "${VLLM_MODEL_PATH:=/models/embeddings}"
: "${VLLM_HOST:=0.0.0.0}"
: "${VLLM_PORT:=8002}"

exec python -m vllm.entrypoints.openai.api_server \
  --model "${VLLM_MODEL_PATH}" \
  --trust-remote-code \
  --host "${VLLM_HOST}" \
  --port "${VLLM_PORT}" \
  --gpu-memory-utilization 0.1
