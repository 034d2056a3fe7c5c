#!/bin/bash
BIND=0.0.0.0
if [ "$BIG" ]; then
  exec vllm serve big --host $BIND
fi
exec vllm serve small --host $BIND
