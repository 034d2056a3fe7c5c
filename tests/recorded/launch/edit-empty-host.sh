#!/bin/bash
vllm serve m --host "" --port 8000
