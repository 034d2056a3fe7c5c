#!/bin/bash
if [ -n "$SOCKET" ]; then
  exec vllm serve m --uds "$SOCKET"
else
  exec vllm serve m --host 0.0.0.0
fi
