#!/bin/bash

OPTS="--host 0.0.0.0 --port 8000 --enforce-eager"
exec vllm serve Qwen/Qwen3-8B $OPTS
