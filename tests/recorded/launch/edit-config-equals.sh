#!/bin/bash
exec vllm serve --config=config.yaml --port 8000
