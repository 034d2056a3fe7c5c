#!/bin/bash

if [ -z "${MODEL:-}" ]; then
    echo "MODEL is not set" >&2
    exit 2
elif command -v vllm >/dev/null; then
    exec vllm serve "$MODEL" --host 0.0.0.0
fi
