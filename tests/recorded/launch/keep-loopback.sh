#!/bin/bash
exec vllm serve m --host 127.0.0.1 --port 8000
