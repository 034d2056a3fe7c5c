#!/usr/bin/env bash
set -euo pipefail
cmd=(
  python3 -m vllm.entrypoints.openai.api_server
  --model "$MODEL"
  --host "${BIND_ADDRESS:-0.0.0.0}"
  --port 8000
)
printf '+'
printf ' %q' "${cmd[@]}"
printf '\n'
exec "${cmd[@]}"
