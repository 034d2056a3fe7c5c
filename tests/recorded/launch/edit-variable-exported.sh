#!/bin/bash

export LISTEN=0.0.0.0 LISTEN_PORT=8000
vllm serve m --host=$LISTEN --port=$LISTEN_PORT
