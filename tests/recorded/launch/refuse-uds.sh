#!/bin/bash
exec vllm serve m --uds /run/vllm/vllm.sock
