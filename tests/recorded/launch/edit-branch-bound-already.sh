#!/bin/bash
if [ "$PUBLIC" ]; then exec vllm serve m --host 0.0.0.0; fi
exec vllm serve m --host 127.0.0.1
