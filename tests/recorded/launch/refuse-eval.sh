#!/bin/bash
CMD="vllm serve m --host 0.0.0.0"
eval "$CMD"
