#!/bin/bash

exec vllm serve "$MODEL" --host 0.0.0.0 --port ${PORT:-8000} ${VLLM_EXTRA_ARGS:-}
