#!/bin/bash
# Größe: läuft
echo "größer"
exec vllm serve m \
  --host 0.0.0.0 \
  --chat-template /models/größe.jinja
