"""Earlier runs, and the log of one."""

from __future__ import annotations

import sys
import time
from datetime import datetime

from . import journal, runs
from .report import UNDOING


def show_runs() -> int:
    holder = runs.find_holder()
    for past in journal.past_runs():
        began = datetime.fromtimestamp(past.began).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        if past.continued_by:
            state = f"cut off; completed by {past.continued_by}"
        elif past.ended is None:
            command = {**{name: name for name in UNDOING}, "key": f"key new{past.unit and ' --unit '}{past.unit}"}.get(
                past.command, "apply"
            )
            state = "under way" if holder and holder.run == past.id else f"cut off: the next {command} completes it"
        else:
            state = f"exit code {past.exit_code}{', changed this server' if past.changed else ''}"
        print(f"{past.id}  {began}  {past.command:<8}  {state}")
    return 0


def show_log(run: str | None, *, follow: bool) -> int:
    """Prints the log; with `follow` it goes on until the run has ended."""
    known = [past.id for past in journal.past_runs()]
    wanted = run or (known[0] if known else None)
    if wanted is None or wanted not in known:
        said = f"there is no run {run}" if run else "there was no run yet"
        print(f"{said}; earlier runs: sudo vllm-https-setup runs", file=sys.stderr)
        return 2
    try:
        with open(journal.log_path(wanted), encoding="utf-8", errors="replace") as opened:
            while True:
                ended = not follow or not _is_under_way(wanted)
                for line in opened:
                    print(line, end="", flush=follow)
                if ended:
                    return 0
                time.sleep(0.2)
    except FileNotFoundError:
        print(f"the log of run {wanted} is gone: {journal.log_path(wanted)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _is_under_way(run: str) -> bool:
    holder = runs.find_holder()
    return holder is not None and holder.run == run
