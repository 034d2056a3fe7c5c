#!/usr/bin/env bash
HOST="${HOST:-0.0.0.0}"
exec vllm serve "$MODEL" --host "${HOST}" --port 8000
