#!/usr/bin/env bash
set -euo pipefail
VLLM_HOST="${VLLM_HOST:-0.0.0.0}"
VLLM_PORT="${VLLM_PORT:-8000}"
VLLM_EXTRA_ARGS="${VLLM_EXTRA_ARGS:---max-model-len 8192 --trust-remote-code}"
VLLM_LOG="${VLLM_LOG:-vllm.log}"

if curl -fsS "http://localhost:8000/v1/models" >/dev/null 2>&1; then
  exit 0
fi
# shellcheck disable=SC2086
nohup vllm serve "$MODEL" --host "$VLLM_HOST" --port "$VLLM_PORT" $VLLM_EXTRA_ARGS > "$VLLM_LOG" 2>&1 &
wait
