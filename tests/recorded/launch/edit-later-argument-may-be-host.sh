#!/bin/bash
FLAGS="--port 8000"
[ -n "$PUBLIC" ] && FLAGS="$FLAGS --host 0.0.0.0"
exec vllm serve m --host 127.0.0.1 $FLAGS
