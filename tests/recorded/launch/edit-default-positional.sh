#!/usr/bin/env bash
# start.sh [MODEL] [PORT] [MAX_MODEL_LEN]
set -euo pipefail

MODEL="${1:-Qwen/Qwen3-4B}"
PORT="${2:-8000}"
MAX_MODEL_LEN="${3:-4096}"
HOST="${HOST:-0.0.0.0}"

echo "export OPENAI_BASE_URL=\"http://localhost:${PORT}/v1\""
exec vllm serve "${MODEL}" \
  --host "${HOST}" \
  --port "${PORT}" \
  --max-model-len "${MAX_MODEL_LEN}" \
  --enable-chunked-prefill
