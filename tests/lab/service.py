"""One server program of the lab's internet, run in the lab's namespaces."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab.machine import SEARCH_PATH, CommandFailed
from tests.lab.space import Deadline, Space, children, kill


class Service:
    """A program that runs until it is stopped, or until the lab ends."""

    def __init__(
        self, space: Space, argv: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self._space = space
        self._log = log
        self._what = str(argv[0])
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                space.enter(argv),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8", **(env or {})},
            )

    def wait_for(self, *listeners: str, seconds: float = 20) -> None:
        """Return when all of these "address:port" listen on TCP; raises CommandFailed when the program ends first."""
        until = Deadline(f"{self._what} at {' '.join(listeners)}", seconds)
        while not set(listeners) <= set(self._space.run(["ss", "-Hltn"]).stdout.split()):
            if self._process.poll() is not None:
                raise CommandFailed(f"{self._what} ended: {self.log()[-2000:]}")
            until.tick()

    def log(self) -> str:
        """What it wrote."""
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        """End it now."""
        for pid in children(self._process.pid):
            kill(pid)
        self._process.wait()

    def close(self) -> None:
        """Wait for the end that the lab's own end has brought."""
        self._process.wait()
