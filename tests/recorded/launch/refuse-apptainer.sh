#!/bin/bash
module load apptainer
apptainer exec --nv /containers/vllm.sif vllm serve org/model --host 0.0.0.0
