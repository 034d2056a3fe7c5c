#!/usr/bin/env bash
export HF_HUB_DISABLE_XET=1
export CUDA_DEVICE_ORDER=PCI_BUS_ID
if [ -z "${HF_TOKEN:-}" ]; then
  echo "HF_TOKEN is not set: gated models answer 401 unless cached." >&2
fi
echo "Poll http://localhost:${PORT:-8002}/v1/models for readiness."
exec /opt/vllm/venv/bin/vllm serve \
  "$MODEL" \
  --host 0.0.0.0 \
  --port "${PORT:-8002}" \
  --limit-mm-per-prompt '{"video": 1}' \
  --allowed-origins '["*"]'
