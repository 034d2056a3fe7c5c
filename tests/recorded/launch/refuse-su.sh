#!/bin/bash
su - vllm -s /bin/bash -c 'vllm serve m --host 0.0.0.0'
