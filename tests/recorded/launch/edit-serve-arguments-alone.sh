#!/bin/bash
set -euo pipefail

# prepares the image, then serves what the unit says
if [ "${1:-}" = "--prepare-only" ]; then
    exit 0
fi
exec vllm serve "$@"
