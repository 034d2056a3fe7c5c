#!/bin/bash
HOST=127.0.0.1
export "HOST=0.0.0.0"
vllm serve m --host "$HOST"
