#!/bin/bash
podman run --rm --device nvidia.com/gpu=all --network host docker.io/vllm/vllm-openai:v0.11.0 \
  --model org/model --host 0.0.0.0 --port 8000
