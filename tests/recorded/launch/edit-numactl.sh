#!/bin/bash
exec numactl --cpunodebind=0 --membind=0 /opt/vllm/venv/bin/vllm serve m --host 0.0.0.0 --port 8000
