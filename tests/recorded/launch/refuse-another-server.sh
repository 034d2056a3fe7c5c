#!/bin/bash
exec python -m sglang.launch_server --model-path org/model --host 0.0.0.0 --port 8000
