#!/bin/bash
vllm serve a --host 127.0.0.1 --port 8001 &
vllm serve b --host 127.0.0.1 --port 8002
