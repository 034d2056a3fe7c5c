#!/usr/bin/env bash

set -euo pipefail

if [[ -z "${MODEL:-}" ]]; then
  echo "MODEL is not set" >&2
  exit 2
fi

HOST="${HOST:-0.0.0.0}"
PORT="${PORT:-8000}"
TP="${TP:-1}"

echo "vLLM: ${MODEL} on ${HOST}:${PORT}, tensor parallel ${TP}"
exec python -m vllm.entrypoints.openai.api_server \
  --model "${MODEL}" \
  --port "${PORT}" \
  --host "${HOST}" \
  --tensor-parallel-size "${TP}" \
  ${VLLM_EXTRA_ARGS:-}
