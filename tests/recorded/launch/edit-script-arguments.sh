#!/usr/bin/env bash

set -euo pipefail
exec vllm serve "${MODEL}" --host 0.0.0.0 --port 8000 "$@"
