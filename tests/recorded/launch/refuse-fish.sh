#!/usr/bin/env fish
set -x HF_HOME /opt/vllm/hf
exec vllm serve m --host 0.0.0.0
