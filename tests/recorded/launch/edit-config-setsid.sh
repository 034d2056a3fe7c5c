#!/usr/bin/env bash
CONFIG=/opt/vllm/config.yaml
VLLM_BIN=/opt/vllm/venv/bin/vllm
LOG=vllm.log
start() {
  CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES:-0,1}" \
    setsid "${VLLM_BIN}" serve --config "${CONFIG}" >"${LOG}" 2>&1 &
  wait
}
stop() { pgrep -f "vllm serve --config ${CONFIG}" | xargs -r kill; }
"${1:-start}"
