"""The namespaces of one lab, and their end.

Everything of a lab lives in a PID, a mount and a network namespace, whose first process waits for the end of a
pipe that only the lab holds. However the lab's process ends, the pipe closes, the first process goes, and with
it the kernel takes all processes, mounts, links and addresses. A keeper outside then removes the files.
"""

import fcntl
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tests.lab import cache
from tests.lab.machine import SEARCH_PATH, CommandFailed, Result, run

GATE, GATE6 = "10.91.0.1", "fd91::1"
OUTSIDE, OUTSIDE6 = "10.91.0.9", "fd91::9"
NAMESERVER, NAMESERVER6 = "10.91.0.2", "fd91::2"  # at the gate: the server of all zones
CA, CA6 = "10.91.0.3", "fd91::3"  # at the gate: acme.lab
FAR = "198.51.100.9"  # the machine outside again, for hosts reached by a translated address
PUBLIC_NET = "203.0.113.0/24"  # addresses that the gate can translate to a host's
BRIDGE = "lab0"
CGROUPS = "vllm-https-lab"  # the lab's control groups: CGROUPS-ID


class Space:
    """Namespaces, files and control groups of the lab `id`."""

    def __init__(self, lab_id: str) -> None:
        self.id = lab_id
        self.files = cache.directory() / "labs" / lab_id
        self._keeper: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._holder = 0

    def open(self) -> None:
        """Make it all; raises CommandFailed with what the set-up said."""
        self.files.parent.mkdir(exist_ok=True)
        with cache.locked(self.files.parent / ".lock"):  # clean.py must not see a lab that has no lock yet
            self.files.mkdir()
            self.files.chmod(0o755)
            self._lock = (self.files / "lock").open("w")  # held as long as this process lives
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        scripts = cache.HERE / "files"
        keeper = ["sh", f"{scripts}/keeper.sh", f"{self.files}", f"{CGROUPS}-{self.id}", f"{scripts}/holder.sh"]
        with (self.files / "space.log").open("wb") as log:
            self._keeper = subprocess.Popen(
                keeper,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                env={"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8", "LAB_PYTHON": sys.executable} | addresses(),
            )
        assert self._keeper.stdout is not None
        ready, _, _ = select.select([self._keeper.stdout], [], [], 30)
        if not ready or self._keeper.stdout.readline() != b"ready\n":
            raise CommandFailed(f"the lab's namespaces: {(self.files / 'space.log').read_text()[-2000:]}")
        self._holder = self._find_holder(self._keeper.pid)

    @staticmethod
    def _find_holder(keeper: int) -> int:
        (unshare,) = children(keeper)
        (holder,) = children(unshare)
        return holder

    @property
    def disk(self) -> Path:
        """Where overlays keep their changes; to be read through `inside` (it may be a mount)."""
        return self.files / "disk"

    @property
    def holder(self) -> int:
        """The process id, seen from the machine, of the first process inside."""
        return self._holder

    def inside(self, path: Path) -> Path:
        """The path, seen from the machine, of a path that is mounted only inside."""
        return Path(f"/proc/{self._holder}/root") / path.relative_to("/")

    def cgroup(self, name: str) -> Path:
        """The directory of a control group of this lab, seen from the machine."""
        return self.inside(Path("/sys/fs/cgroup")) / f"{CGROUPS}-{self.id}" / name

    def enter(self, argv: Sequence[str | Path], *, outside: bool = False) -> list[str]:
        """The argument list that runs `argv` at the gate, or on the machine outside of all hosts."""
        root = f"/proc/{self._holder}"
        net = f"{root}/root/run/netns/outside" if outside else f"{root}/ns/net"
        return ["nsenter", f"--mount={root}/ns/mnt", f"--pid={root}/ns/pid", f"--net={net}", "--", *map(str, argv)]

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        outside: bool = False,
        check: bool = True,
        timeout: float = 60,
        stdin: bytes = b"",
    ) -> Result:
        """Run a command at the gate, or outside."""
        return run(self.enter(argv, outside=outside), check=check, timeout=timeout, stdin=stdin)

    def abandon(self) -> None:
        """Kill the keeper and forget everything: what clean.py is for."""
        keeper, self._keeper = self._keeper, None
        assert keeper is not None
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        keeper.kill()
        keeper.wait()
        keeper.stdin.close()
        keeper.stdout.close()
        assert self._lock is not None
        self._lock.close()

    def close(self) -> None:
        """End all of it; returns when nothing is left. May be called at any time, also twice."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            assert keeper.stdin is not None
            assert keeper.stdout is not None
            keeper.stdin.close()
            if self._holder:
                kill(self._holder)
            keeper.stdout.close()
            while True:  # a second Ctrl-C must not leave half of it behind
                try:
                    keeper.wait()
                    break
                except KeyboardInterrupt:
                    continue
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        self._holder = 0


def addresses() -> dict[str, str]:
    """The fixed addresses, as the set-up script wants them."""
    return {
        "LAB_BRIDGE": BRIDGE,
        "LAB_GATE": GATE,
        "LAB_GATE6": GATE6,
        "LAB_OUTSIDE": OUTSIDE,
        "LAB_OUTSIDE6": OUTSIDE6,
    }


def children(pid: int) -> list[int]:
    """The child processes of a process; none where it is gone."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def kill(pid: int) -> None:
    """SIGKILL to one process, which may be gone already."""
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return


class Deadline:
    """A wait, in seconds, that says what did not happen once it is over."""

    def __init__(self, what: str, seconds: float) -> None:
        self._what = what
        self._end = time.monotonic() + seconds

    def tick(self, pause: float = 0.02) -> None:
        """Sleep a little, or raise TimeoutError."""
        if time.monotonic() > self._end:
            raise TimeoutError(f"gave up waiting for {self._what}")
        time.sleep(pause)
