#!/bin/bash
NET=(--host 0.0.0.0)
python3 gateway.py "${NET[@]}" --port 9000
exec vllm serve m "${NET[@]}" --port 8000
