#!/usr/bin/env bash
set -uo pipefail

SCRIPT_DIR="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck disable=SC1091
source "$SCRIPT_DIR/common.sh"

export VLLM_HOST_IP="${VLLM_HOST_IP:-}"

echo "vLLM on ${VLLM_HOST}:${VLLM_PORT}"
uv run python -m vllm.entrypoints.openai.api_server \
  --model "$MODEL" \
  --host "$VLLM_HOST" --port "$VLLM_PORT" \
  --tensor-parallel-size 1
