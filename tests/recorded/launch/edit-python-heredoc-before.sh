#!/bin/bash
set -euo pipefail
LENGTH="$(python3 - <<'PY'
print(4096)
PY
)"
export PYTHONPATH="/opt/plugins${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "${XDG_CACHE_HOME:-.cache}"
exec vllm serve "$MODEL" \
  --host "${HOST:=0.0.0.0}" \
  --max-model-len "${LENGTH:-8192}" \
  "$@"
