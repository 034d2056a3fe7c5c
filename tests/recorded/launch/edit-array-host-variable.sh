#!/bin/bash
HOST="${HOST:-0.0.0.0}"
PIDFILE=vllm.pid
ARGS=( "$MODEL" --served-model-name emb --host "$HOST" --port "${PORT:-8000}"
       --max-model-len 4096 )
ARGS+=( --runner pooling --convert embed )
[ -n "${GPU_MEM_UTIL:-}" ] && ARGS+=( --gpu-memory-utilization "$GPU_MEM_UTIL" )
[ -n "${EXTRA_ARGS:-}" ] && ARGS+=( ${EXTRA_ARGS} )

nohup vllm serve "${ARGS[@]}" > server.log 2>&1 &
echo $! > "$PIDFILE"
wait
