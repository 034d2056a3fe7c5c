#!/bin/bash
HOST=0.0.0.0 vllm serve m --host "$HOST"
