#!/bin/bash
exec docker run --rm --network host img vllm serve m --host 0.0.0.0
