#!/bin/bash

info() { printf '[%s] %s\n' "$(date +%T)" "$*"; }
info "Starting vllm serve on port 8000"
pgrep -f "vllm serve" >/dev/null && info "vllm serve runs already"
exec vllm serve m --host 0.0.0.0
