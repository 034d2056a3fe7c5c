#!/bin/bash

exec vllm serve m --host 0.0.0.0 \
  --override-generation-config '{"temperature": 0.6, "note": "--host 0.0.0.0"}' \
  --compilation-config "{\"level\": 3}"
