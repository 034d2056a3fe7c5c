#!/bin/bash
CUDA_VISIBLE_DEVICES=0 nohup vllm serve org/chat --host 0.0.0.0 --port 8000 > chat.log 2>&1 &
CUDA_VISIBLE_DEVICES=1 nohup vllm serve org/embed --host 0.0.0.0 --port 8001 --runner pooling > embed.log 2>&1 &
wait
