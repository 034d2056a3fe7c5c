#!/bin/bash

CUDA_VISIBLE_DEVICES=0 VLLM_LOGGING_LEVEL=INFO exec vllm serve m --host 0.0.0.0 \
    --tensor-parallel-size $(nvidia-smi -L | wc -l)
