#!/bin/bash
exec env OMP_NUM_THREADS=8 nice -n 5 vllm serve m --host 0.0.0.0
