#!/bin/bash
VLLM_PORT="${VLLM_PORT:-8000}"
mkdir -p logs
fuser -k ${VLLM_PORT}/tcp 2>/dev/null || true
sleep 1
python -m vllm.entrypoints.openai.api_server \
  --model "${MODEL}" \
  --port "${VLLM_PORT}" \
  --trust-remote-code \
  --enforce-eager \
  > logs/vllm.log 2>&1 &
VLLM_PID=$!
for i in {1..3}; do
  if curl -s http://127.0.0.1:${VLLM_PORT}/v1/models > /dev/null 2>&1; then
    echo "ready after ${i}"; break
  fi
  sleep 1
done
wait "$VLLM_PID"
