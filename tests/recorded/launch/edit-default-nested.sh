#!/bin/bash
set -e
HOST="${HOST:-${VLLM_HOST:-0.0.0.0}}"
PORT="${PORT:-${VLLM_PORT:-8000}}"
SERVED="${SERVED_MODEL_NAME:-${VLLM_MODEL:-chat}}"
exec vllm serve /models/chat --served-model-name "$SERVED" --host "$HOST" --port "$PORT" --dtype float16
