#!/bin/bash
cat > /tmp/run.sh <<EOF
vllm serve m --host 0.0.0.0
EOF
bash /tmp/run.sh
