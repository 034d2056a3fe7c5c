#!/bin/bash
vllm serve Qwen/Qwen3-8B --port=8000 --host=0.0.0.0 --dtype auto
