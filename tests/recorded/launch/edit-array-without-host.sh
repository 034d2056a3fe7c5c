#!/usr/bin/env bash

args=(serve Qwen/Qwen3-8B --port 8000)
[[ "${EAGER:-0}" == 1 ]] && args+=(--enforce-eager)
exec vllm "${args[@]}"
