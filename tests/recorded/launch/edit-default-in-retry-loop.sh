#!/bin/bash
RETRIES=3
TRY=0
while [ $TRY -lt $RETRIES ]; do
    python -m vllm.entrypoints.openai.api_server \
        --model "${VLLM_MODEL_PATH:-org/model}" \
        --host "${VLLM_HOST:-0.0.0.0}" \
        --port "${VLLM_PORT:-8001}" \
        --max-num-seqs "${VLLM_MAX_NUM_SEQS:-4}" &
    VLLM_PID=$!
    wait $VLLM_PID && exit 0
    TRY=$((TRY + 1))
done
