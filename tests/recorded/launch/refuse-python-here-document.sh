#!/bin/bash
python3 - <<'EOF'
import subprocess
subprocess.run(["vllm", "serve", "m", "--host", "0.0.0.0"])
EOF
