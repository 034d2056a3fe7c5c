#!/bin/bash
vllm serve m --port 8000 --host 192.168.1.20
