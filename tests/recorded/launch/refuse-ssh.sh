#!/bin/bash
ssh gpu-node 'cd models && nohup vllm serve m --host 0.0.0.0 --port 8000 > vllm.log 2>&1 &'
