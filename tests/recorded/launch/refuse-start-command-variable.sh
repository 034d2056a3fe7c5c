#!/bin/bash
if [[ -n "${VLLM_START_COMMAND:-}" ]]; then
  nohup bash -lc "$VLLM_START_COMMAND" > vllm.log 2>&1 &
fi
wait
