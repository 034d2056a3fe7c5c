#!/bin/bash
exec vllm serve m --port 8000 --host
