#!/usr/bin/env bash

set -euo pipefail
exec /opt/vllm/venv/bin/python -m vllm.entrypoints.openai.api_server --model m --host=0.0.0.0
