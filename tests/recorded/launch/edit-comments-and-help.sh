#!/bin/bash

# vllm serve old --host 10.0.0.1
vllm serve --help >/dev/null
# the real one:
vllm serve m --host 0.0.0.0 # public
