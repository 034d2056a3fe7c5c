#!/bin/bash
HOST="${HOST:-0.0.0.0}"
exec vllm serve m --host "$HOST"
