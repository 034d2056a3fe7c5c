#!/bin/bash
HOST=0.0.0.0
ray start --head --node-ip-address "$HOST"
vllm serve m --host "$HOST"
