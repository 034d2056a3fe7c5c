export HCCL_OP_EXPANSION_MODE=AIV
MODEL_PATH=/models/foo
HOST_IP=192.0.2.10
ARGS=(
    --model $MODEL_PATH
    --served-model-name foobar
    --host $HOST_IP
    --port 60006
    --speculative-config '{"method": "mtp", "num_speculative_tokens": 3}'
    # --enforce-eager
)
vllm serve "${ARGS[@]}"
exit


curl http://192.0.2.10:60006/v1/completions \
    -d '{"model": "foobar", "prompt": "San Francisco is a"}'
