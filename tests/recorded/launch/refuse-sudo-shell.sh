#!/bin/bash
sudo -u vllm bash -c 'exec vllm serve m --host 0.0.0.0'
