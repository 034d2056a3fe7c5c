#!/bin/bash
MODEL_PATH="${1:-/models/Qwen3-7B}"
TP_SIZE="${2:-4}"
export ASCEND_RT_VISIBLE_DEVICES="${ASCEND_RT_VISIBLE_DEVICES:-0,1,2,3}"
export LD_LIBRARY_PATH="/usr/local/Ascend/lib64:${LD_LIBRARY_PATH:-}"

exec vllm serve "${MODEL_PATH}" \
    --distributed-executor-backend mp \
    --tensor-parallel-size "${TP_SIZE}" \
    --port "${PORT}" \
    --no-enable-prefix-caching \
    --compilation-config '{"cudagraph_mode":"FULL_DECODE_ONLY"}' \
    --block-size 128
