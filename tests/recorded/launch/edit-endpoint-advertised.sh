#!/bin/bash
SERVER_HOST="${SERVER_HOST:-0.0.0.0}"
SERVER_PORT="${SERVER_PORT:-8000}"
ENDPOINT_HOST="${ADVERTISE_HOST:-$(hostname)}"
LORA_ARGS=()
[ -n "${ADAPTER:-}" ] && LORA_ARGS=(--enable-lora --lora-modules "a=${ADAPTER}")
echo "ENDPOINT=http://${ENDPOINT_HOST}:${SERVER_PORT}/v1" > endpoint.env
exec vllm serve "$MODEL" --host "${SERVER_HOST}" --port "${SERVER_PORT}" "${LORA_ARGS[@]}"
