#!/bin/bash
args=(m --port 8000)
args+=(--host 127.0.0.1)
exec vllm serve "${args[@]}"
