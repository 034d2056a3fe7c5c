#!/bin/bash
exec vllm serve m --host ${VLLM_BIND:-0.0.0.0} --port 8000
