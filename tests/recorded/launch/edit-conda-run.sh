#!/bin/bash
exec conda run --no-capture-output -n vllm vllm serve org/model --host 0.0.0.0 --port 8000
