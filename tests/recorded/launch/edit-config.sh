#!/bin/bash
exec vllm serve m --config /etc/vllm/config.yaml
