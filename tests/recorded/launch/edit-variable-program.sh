#!/bin/bash

VENV=/opt/vllm/venv
exec "$VENV/bin/vllm" serve m --host 0.0.0.0
