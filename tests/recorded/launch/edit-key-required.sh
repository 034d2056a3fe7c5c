#!/usr/bin/env bash
set -euo pipefail

PORT="${PORT:-8000}"
printf 'vLLM, with a key\n'
printf '  listen=0.0.0.0:%s\n' "$PORT"
printf '  api_key=configured\n'

exec vllm serve "$MODEL" \
  --revision "15852e8c16360a2fea060d615a32b45270f8a8fc" \
  --host 0.0.0.0 \
  --port "$PORT" \
  --dtype half \
  --api-key "$VLLM_API_KEY"
