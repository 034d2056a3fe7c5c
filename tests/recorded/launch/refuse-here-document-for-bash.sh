#!/bin/bash
sudo -u vllm bash <<'EOF'
source /opt/vllm/venv/bin/activate
exec vllm serve m --host 0.0.0.0
EOF
