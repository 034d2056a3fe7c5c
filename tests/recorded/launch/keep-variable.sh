#!/bin/bash
H=127.0.0.1
exec vllm serve m --host "$H" "$@"
