#!/bin/bash
exec bash -lc "source ~/.bashrc; vllm serve m --host 0.0.0.0"
