#!/bin/bash
set -e
NUM_GPUS=$(nvidia-smi -L | wc -l)
if [ "$NUM_GPUS" -gt 1 ]; then
    TP="--tensor-parallel-size $NUM_GPUS"
else
    TP=""
fi
exec vllm serve "$MODEL" --host 0.0.0.0 --port 8000 $TP
