#!/opt/vllm-https-setup/bin/python -I
"""The command: `python -I -m wizard`; a copy of this file is /usr/local/bin/vllm-https-setup."""

import gc
import sys

from wizard.cli import main

code = main()
# Python ends with looking through all that was loaded for what is left over, which takes as long as ten commands.
gc.freeze()
sys.exit(code)
