#!/usr/bin/env bash

set -euo pipefail
MODEL="Qwen/Qwen3-8B"
HOST="0.0.0.0"
PORT=8000
echo "Serving ${MODEL} on ${HOST}:${PORT}"
exec vllm serve "${MODEL}" \
  --host "${HOST}" \
  --port "${PORT}"
