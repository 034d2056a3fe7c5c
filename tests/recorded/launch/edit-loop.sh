#!/bin/bash

# restart vllm serve when it dies
for attempt in 1; do
    vllm serve m --host 0.0.0.0 --port 8000 || sleep 0
done
