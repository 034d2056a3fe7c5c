#!/bin/bash

eval "$(conda shell.bash hook)"
conda activate vllm
HOST=0.0.0.0
vllm serve m --host $HOST
