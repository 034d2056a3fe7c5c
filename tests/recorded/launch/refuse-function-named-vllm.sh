#!/bin/bash
vllm() { /opt/vllm/venv/bin/vllm "$@" --host 0.0.0.0; }
vllm serve m
