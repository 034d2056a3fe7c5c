#!/bin/bash
set -euo pipefail
ADAPTER="${1:-}"
ARGS=(Qwen/Qwen3-32B --dtype bfloat16 --port 8000 --seed 0)
if [[ -n "$ADAPTER" ]]; then ARGS+=(--enable-lora --lora-modules "adapter=$ADAPTER"); fi
exec vllm serve "${ARGS[@]}"
