#!/bin/bash
vllm serve a --host 0.0.0.0 --port 8001 &
vllm serve b --host 0.0.0.0 --port 8002
wait
