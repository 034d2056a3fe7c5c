#!/bin/bash
export VLLM_ENABLE_V1_MULTIPROCESSING=0

HOST=${HOST:-"127.0.0.1"}
PORT=${PORT:-"8000"}

echo "Host: $HOST:$PORT"
vllm serve "$MODEL" \
  --disable-fastapi-docs \
  --host $HOST --port $PORT
