#!/bin/bash

main() {
    local host="0.0.0.0"
    local port=8000
    exec vllm serve Qwen/Qwen3-8B --host "$host" --port "$port"
}
main "$@"
