#!/bin/bash

export HF_HOME="${HF_HOME:-/opt/vllm/huggingface}"
exec vllm serve "$MODEL" \
  --port "$PORT" \
  --dtype auto
