#!/bin/bash
set -a; source /etc/vllm/extra.env; set +a
vllm serve $LLM_MODEL --host=$LLM_SERVER_HOST
