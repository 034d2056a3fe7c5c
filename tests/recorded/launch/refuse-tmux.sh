#!/bin/bash
tmux new-session -d -s vllm "vllm serve m --host 0.0.0.0"
