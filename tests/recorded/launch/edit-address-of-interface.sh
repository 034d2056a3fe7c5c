#!/bin/bash
IP=$(hostname -I 2>/dev/null | awk '{print $1}')
exec vllm serve m --host "$IP" --port 8000
