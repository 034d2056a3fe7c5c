#!/bin/bash

cmd=(vllm serve Qwen/Qwen3-8B)
cmd+=(--host=0.0.0.0 --port 8000)
echo "${cmd[@]}"
exec "${cmd[@]}"
