#!/usr/bin/env bash

set -euo pipefail
VLLM_ARGS=(
  "Qwen/Qwen3-8B"
  --served-model-name qwen
  --host 0.0.0.0   # all interfaces
  --port 8000
)
if [ -n "${REASONING_PARSER:-}" ]; then
  VLLM_ARGS+=(--reasoning-parser "${REASONING_PARSER}")
fi
exec vllm serve "${VLLM_ARGS[@]}"
