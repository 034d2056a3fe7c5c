#!/bin/bash
bash -c "vllm serve m --host 0.0.0.0" &
wait
