#!/opt/vllm-https-setup/bin/python -I
"""The command: `python -I -m wizard`; a copy of this file is /usr/local/bin/vllm-https-setup."""

import os
import sys
import threading

from wizard.cli import main

code = main()
try:
    sys.stdout.flush()
    sys.stderr.flush()
except (OSError, ValueError):
    sys.exit(code)
if threading.active_count() > 1:
    sys.exit(code)
# Python would take all that was loaded apart again, which takes as long as ten commands.
os._exit(code)
