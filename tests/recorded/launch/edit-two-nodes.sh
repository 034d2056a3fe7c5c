#!/bin/bash

unset VLLM_DISABLED_KERNELS
export VLLM_IFACE=enp1s0f0
export NCCL_SOCKET_IFNAME=$VLLM_IFACE
export GLOO_SOCKET_IFNAME=$VLLM_IFACE
export VLLM_HOST_IP=169.254.122.182
export MODEL_PATH=/models/step

/opt/vllm/venv/bin/vllm serve \
    --distributed-executor-backend ray \
    --data-parallel-address $VLLM_HOST_IP \
    --data-parallel-rpc-port 13345 \
    --model $MODEL_PATH \
    --host 0.0.0.0 \
    --port 8000 \
    --enable-expert-parallel
