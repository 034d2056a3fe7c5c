#!/bin/bash
HOST=127.0.0.1
if [ "$PUBLIC" = 1 ]; then HOST=0.0.0.0; fi
vllm serve m --host $HOST
