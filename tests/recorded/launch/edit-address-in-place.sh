#!/bin/bash
exec vllm serve m --host $(hostname -I | awk '{print $1}') --port 8000
