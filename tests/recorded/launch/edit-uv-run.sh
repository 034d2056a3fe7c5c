#!/bin/bash
cd /
exec uv run --no-sync vllm serve m --host 0.0.0.0
