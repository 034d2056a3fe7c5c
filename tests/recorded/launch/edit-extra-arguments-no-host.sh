#!/bin/bash

exec vllm serve "$MODEL" --port "$PORT" $EXTRA_ARGS
