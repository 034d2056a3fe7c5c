#!/bin/bash

BIND=0.0.0.0
ARGS=(--host "$BIND" --port 8000)
exec vllm serve m "${ARGS[@]}"
