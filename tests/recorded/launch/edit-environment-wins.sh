#!/bin/bash
HOST=${HOST:-127.0.0.1}
exec vllm serve m --host "$HOST" --port 8000
