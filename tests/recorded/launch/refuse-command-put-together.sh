#!/bin/bash
CMD="vllm serve m"
CMD="$CMD --host 0.0.0.0"
$CMD
