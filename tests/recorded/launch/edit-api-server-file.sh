#!/bin/bash

export CUDA_VISIBLE_DEVICES=0
python3 vllm/entrypoints/openai/api_server.py --host 192.0.2.45 --port 8001 --model /models/qwen
