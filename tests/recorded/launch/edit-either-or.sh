#!/bin/bash
if [ "$BIG" ]; then
  exec vllm serve big --host 0.0.0.0
else
  exec vllm serve small
fi
