export CUDA_VISIBLE_DEVICES=0
port=5000

python -m vllm.entrypoints.openai.api_server \
        --model org/llama-3-70b-awq \
        --quantization awq \
        --port $port \
        --disable-log-requests &

echo "Started server on port $port"
