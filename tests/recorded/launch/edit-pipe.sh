#!/bin/bash
vllm serve m --host 0.0.0.0 2>&1 | tee -a server.log
