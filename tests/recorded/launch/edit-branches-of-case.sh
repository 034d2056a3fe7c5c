#!/bin/bash
case "${SIZE:-small}" in
  small) exec vllm serve small --host 0.0.0.0 --port 8000 ;;
  large) exec vllm serve large --host=0.0.0.0 --port 8000 --tensor-parallel-size 4 ;;
esac
