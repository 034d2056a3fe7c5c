#!/bin/bash

exec python3 -m vllm.entrypoints.openai.api_server \
    --model Qwen/Qwen3-8B \
    --trust-remote-code
