"""What a call leaves behind of its caller's environment: everything, but what its terminal and sudo say.

A run is a unit of its own and gets none of it anyway; what looks beforehand must see what the run will see, and not go
through a proxy, trust a CA, or find a program or library, that only the caller's environment names.
"""

from __future__ import annotations

import os

from .paths import PROGRAMS

KEPT = ("TERM", "COLORTERM", "NO_COLOR", "COLUMNS", "LINES", "SUDO_UID", "VLLM_HTTPS_SETUP_TRACEBACK")


def leave_behind() -> None:
    """Takes the rest out of this process's environment, for itself and for all that it starts."""
    for name in set(os.environ) - set(KEPT):
        del os.environ[name]
    os.environ["PATH"] = ":".join(PROGRAMS)
    # Else pydantic looks through all that is installed, for plugins that nobody wants in a process of root's.
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
