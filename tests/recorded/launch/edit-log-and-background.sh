#!/bin/bash

nohup vllm serve m \
  --host 0.0.0.0 \
  --port 8000 \
  > server.log 2>&1 &
PID=$!
trap 'kill $PID' TERM
wait $PID
