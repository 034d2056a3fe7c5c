#!/bin/bash
HOST=0.0.0.0
[ -f .env ] && export $(grep -v '^#' .env | xargs)
exec vllm serve m --host "$HOST" --port 8000
