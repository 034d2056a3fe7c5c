#!/bin/sh
set -eu
. /opt/vllm/venv/bin/activate
exec vllm serve "$MODEL" --host 0.0.0.0 --api-key "$VLLM_API_KEY"
