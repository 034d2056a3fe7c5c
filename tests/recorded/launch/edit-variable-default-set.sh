#!/bin/bash
HOST=
: "${HOST:=0.0.0.0}"
vllm serve m --host "$HOST"
