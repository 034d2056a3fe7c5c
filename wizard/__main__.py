#!/opt/vllm-https-setup/bin/python -I
"""The command: `python -I -m wizard`; a copy of this file is /usr/local/bin/vllm-https-setup."""

import sys

from wizard.cli import main

sys.exit(main())
