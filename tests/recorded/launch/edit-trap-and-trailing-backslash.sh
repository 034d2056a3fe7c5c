#!/bin/bash

export CUDA_VISIBLE_DEVICES=0
VLLM_PID=""

cleanup() {
    if [[ -n "$VLLM_PID" ]] && kill -0 "$VLLM_PID" 2>/dev/null; then
        kill "$VLLM_PID"
        wait "$VLLM_PID" 2>/dev/null
    fi
    exit 0
}
trap cleanup SIGINT SIGTERM

python -m vllm.entrypoints.openai.api_server \
    --model  ./model\
    --dtype float16 \
    --port 8192 \
    --max-num-seqs 10 \
    
VLLM_PID=$!
wait "$VLLM_PID"
