#!/bin/bash
cd /opt/vllm
exec docker compose up vllm
