"""tests/bench/run: all benchmarks of commands, or those that are named; one table, or JSON. --help says more."""

import argparse
import importlib
import json
import os
import platform
import sys

from tests.bench import clock
from tests.bench.row import Rows, table

SUBJECTS = ("commands", "screens", "scale", "installation")


def main() -> None:
    if sys.argv[1:2] == ["proxy"]:
        from tests.bench import proxy

        del sys.argv[1]
        proxy.main()
        return
    parser = argparse.ArgumentParser(
        prog="tests/bench/run",
        description="What people wait for, beside what they use in its place: medians of servers that are booted for "
        "it, turn by turn in one run. Figures of different machines can't be compared, ratios can.",
        epilog="tests/bench/run proxy --help: what clients wait for, behind the proxy",
    )
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"of {', '.join(SUBJECTS)}; all")
    parser.add_argument("--rounds", type=int, default=7, help="medians of so many (7)")
    parser.add_argument(
        "--cold", action="store_true", help="empty this machine's page cache before each: all is read from its disk"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if unknown := set(options.subjects) - set(SUBJECTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    clock.is_cold = options.cold
    rows: Rows = []
    for subject in options.subjects or SUBJECTS:
        found: Rows = importlib.import_module(f"tests.bench.{subject}").measure(options.rounds)
        rows += found
        if not options.json:
            print(*table(found), sep="\n", flush=True)
    if options.json:
        machine = {
            "cold": options.cold,
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "load": os.getloadavg(),
        }
        print(json.dumps({"machine": machine, "rows": [row.document() for row in rows]}, indent=1))


if __name__ == "__main__":
    main()
