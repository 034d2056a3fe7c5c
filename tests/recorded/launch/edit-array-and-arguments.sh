#!/usr/bin/env bash
set -euo pipefail

if [[ -z "${VLLM_API_KEY:-}" ]]; then
  echo "VLLM_API_KEY must be set: this address is public." >&2
  exit 1
fi

args=(
  "$MODEL"
  --served-model-name chat
  --host 0.0.0.0
  --port "$PORT"
  --enable-prefix-caching
)
if [[ "${MODEL,,}" == *awq* ]]; then
  args+=(--quantization awq)
fi

exec vllm serve "${args[@]}" "$@"
