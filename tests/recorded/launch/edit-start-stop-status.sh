#!/usr/bin/env bash
set -uo pipefail

ACTION="${1:-start}"
PID_FILE=vllm.pid
VENV_BIN=/opt/vllm/venv/bin

env_get() {
  local key="$1"
  local value="${!key-}"
  [[ -n "$value" ]] && echo "$value"
  return 0
}
HOST="$(env_get VLLM_HOST)"
HOST="${HOST:-0.0.0.0}"
PORT="$(env_get VLLM_PORT)"
PORT="${PORT:-8001}"

case "$ACTION" in
  start)
    nohup "$VENV_BIN/vllm" serve org/model --host "$HOST" --port "$PORT" > vllm.log 2>&1 &
    echo $! > "$PID_FILE"
    wait
    ;;
  stop) kill "$(cat "$PID_FILE")" ;;
  status) curl -sf "http://$HOST:$PORT/v1/models" ;;
  *) echo "usage: $0 {start|stop|status}" >&2; exit 1 ;;
esac
