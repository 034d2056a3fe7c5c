#!/bin/bash
exec vllm serve m --host "${HOST-127.0.0.1}" --port 8000
