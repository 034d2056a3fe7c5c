#!/opt/vllm-https-setup/bin/python -I
"""The command: `python -I -m wizard`; a copy of this file is /usr/local/bin/vllm-https-setup."""

import os
import sys
import threading

from wizard.cli import main

code = main()
try:
    sys.stdout.flush()
except BrokenPipeError:
    code = 1
except (OSError, ValueError) as error:
    code = 1
    print(f"not all of the output could be written: {getattr(error, 'strerror', '') or error}", file=sys.stderr)
if any(not one.daemon for one in threading.enumerate() if one is not threading.main_thread()):
    sys.exit(code)
# Python would take all that was loaded apart again, which takes as long as ten commands.
os._exit(code)
