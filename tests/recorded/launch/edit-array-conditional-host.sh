#!/bin/bash
A=(--port 8000)
if [ -n "$PUBLIC" ]; then A+=(--host 0.0.0.0); fi
vllm serve m "${A[@]}"
