#!/bin/bash
set -- vllm serve "$MODEL" --host 0.0.0.0
[ -n "$TP" ] && set -- "$@" --tensor-parallel-size "$TP"
exec "$@"
