CUDA_VISIBLE_DEVICES=4,5

python -m vllm.entrypoints.openai.api_server \
    --model "/models/vl-32b" \
    --tensor-parallel-size 2 \
	--gpu-memory-utilization 0.85 \
    --host 0.0.0.0 \
    --port 8012 \
    --limit-mm-per-prompt '{"image": 10, "video": 1}' \
    # --reasoning-parser deepseek_r1 \
    # --host 127.0.0.1
