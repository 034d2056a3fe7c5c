#!/bin/bash

VLLM_SERVER_DEV_MODE=1 /opt/vllm/venv/bin/vllm serve \
        org/ocr \
        --logits_processors vllm.model_executor.models.ocr:Processor \
        --no-enable-prefix-caching --mm-processor-cache-gb 0 \
        --port 8000
        