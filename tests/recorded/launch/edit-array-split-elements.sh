#!/bin/bash
A=("--host 0.0.0.0" --port 8000)
vllm serve m ${A[@]}
