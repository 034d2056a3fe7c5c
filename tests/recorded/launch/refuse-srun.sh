#!/bin/bash
srun --nodes 2 --ntasks 2 vllm serve org/model --host 0.0.0.0 --port 8000
