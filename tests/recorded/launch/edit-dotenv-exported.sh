#!/bin/bash

if [ -f .env ]; then
    export $(cat .env | grep -v '^#' | xargs)
fi

MODEL_NAME=${VLLM_MODEL:-"openai/gpt-oss-20b"}
PORT=${VLLM_PORT:-8002}
HOST=${VLLM_HOST:-"0.0.0.0"}

if ! command -v vllm &> /dev/null; then
    echo "vLLM is not installed"
    exit 1
fi
vllm serve "$MODEL_NAME" --host "$HOST" --port "$PORT"
