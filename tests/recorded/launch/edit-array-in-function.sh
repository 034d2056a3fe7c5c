#!/usr/bin/env bash
set -euo pipefail

launch() {
  local model="$1"
  local port="$2"
  local quantization="${3:-}"
  local args=(
    --model "$model"
    --port "$port"
    --host 0.0.0.0
    --trust-remote-code
  )
  if [[ -n "$quantization" ]]; then
    args+=(--quantization "$quantization")
  fi
  echo "args: ${args[*]}"
  nohup vllm serve "${args[@]}" > "vllm_${port}.log" 2>&1 &
  wait
}

case "${1:-}" in
  stop) pkill -f "vllm serve" ;;
  *) launch org/model 8000 fp8 ;;
esac
