#!/bin/bash
vllm serve "Qwen/Qwen3-8B" --host "0.0.0.0" --port '8000'
