#!/bin/bash
screen -dmS vllm bash -c "vllm serve m --host 0.0.0.0 --port 8000"
