"""When a measured work begins; and, where that is asked for, with nothing of it in memory."""

import os
import time
from pathlib import Path

DROP = Path("/proc/sys/vm/drop_caches")
is_cold = False


def begin() -> float:
    """The time from which on is measured, in seconds. Cold: the machine reads all that is needed from its disk again,
    programs and directories too (drop_caches, proc(5))."""
    if is_cold:
        os.sync()
        DROP.write_text("3")
    return time.monotonic()
