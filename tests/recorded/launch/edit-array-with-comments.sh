export CUDA_VISIBLE_DEVICES="0"
# export CUDA_VISIBLE_DEVICES="0,1"

args=(
  #
  third_party/ocr
  --served-model-name org/ocr
  #
  # --host 127.0.0.1
  --host 0.0.0.0
  --port 11235
  #
  # -tp 2
  --speculative-config.method mtp
)
vllm serve "${args[@]}" 2>&1 | tee vllm.log
