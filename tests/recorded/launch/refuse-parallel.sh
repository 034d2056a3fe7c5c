#!/bin/bash
parallel -j2 'vllm serve m --host 0.0.0.0 --port {}' ::: 8000 8001
