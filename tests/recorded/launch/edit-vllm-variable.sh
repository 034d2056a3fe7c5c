#!/bin/bash
export VLLM_HOST_IP=192.0.2.7
vllm serve m --host $VLLM_HOST_IP
