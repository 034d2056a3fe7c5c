#!/usr/bin/env bash

HOST=0.0.0.0
while [[ $# -gt 0 ]]; do
  case "$1" in
    --host) HOST="$2"; shift 2 ;;
    *) shift ;;
  esac
done
exec vllm serve m --host "$HOST"
