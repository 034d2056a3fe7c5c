#!/bin/bash
vllm serve m > server.log --host 0.0.0.0 2>&1 --port 8000
