"""What a lab left behind, and its removal: `python -m tests.lab clean`."""

import fcntl
from pathlib import Path

from tests.lab import cache
from tests.lab.machine import run
from tests.lab.space import CGROUPS, kill

LIST_GROUPS = 'mount -t cgroup2 lab /sys/fs/cgroup && cd /sys/fs/cgroup && find . -maxdepth 3 -type d -path "./$1*"'
KILL_GROUPS = (
    'mount -t cgroup2 lab /sys/fs/cgroup && cd "/sys/fs/cgroup/$1" && echo 1 >cgroup.kill;'
    'sleep 0.2; cd /; find "/sys/fs/cgroup/$1" -depth -type d -exec rmdir {} +'
)


def remains(lab_id: str) -> list[str]:
    """What is left of a lab: processes, mounts, links, namespaces, control groups, directories. Empty is clean."""
    found = [f"process {pid}: {words}" for pid, words in _processes(lab_id)]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {line.split()[4]}" for line in mounts if f"/labs/{lab_id}" in line]
    links = run(["ip", "-o", "link"]).stdout.splitlines()
    found += [
        f"link {line.split(':')[1].strip()}" for line in links if line.split(":")[1].strip().startswith(("lab0", "vb-"))
    ]
    spaces = Path("/run/netns")
    found += [f"namespace {path}" for path in (spaces.iterdir() if spaces.exists() else ()) if path.name == "outside"]
    groups = run(["unshare", "--mount", "sh", "-c", LIST_GROUPS, "sh", f"{CGROUPS}-{lab_id}"], check=False).stdout
    found += [f"control group {line}" for line in groups.split()]
    files = cache.directory() / "labs" / lab_id
    return found + ([f"directory {files}"] if files.exists() else [])


def _processes(lab_id: str) -> list[tuple[int, str]]:
    """Processes in the lab's namespaces, found by its mounts, and its keeper, found by its argument list."""
    found = []
    for place in Path("/proc").iterdir():
        if not place.name.isdigit():
            continue
        try:
            words = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            mine = f"/labs/{lab_id}" in words or f"/labs/{lab_id}/" in (place / "mountinfo").read_text()
        except OSError:
            continue
        if mine:
            found.append((int(place.name), words[:200]))
    return found


def clean(lab_id: str) -> None:
    """End and remove all of a lab, whose own process may have been killed."""
    for pid, _ in _processes(lab_id):
        kill(pid)
    run(["unshare", "--mount", "sh", "-c", KILL_GROUPS, "sh", f"{CGROUPS}-{lab_id}"], check=False)
    run(["rm", "-rf", "--one-file-system", cache.directory() / "labs" / lab_id])


def abandoned() -> list[str]:
    """The labs whose own process is gone: nobody holds their lock."""
    labs = cache.directory() / "labs"
    if not labs.exists():
        return []
    with cache.locked(labs / ".lock"):
        return [place.name for place in sorted(labs.iterdir()) if place.is_dir() and not _held(place / "lock")]


def _held(lock: Path) -> bool:
    try:
        with lock.open() as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def sweep() -> list[str]:
    """Remove all abandoned labs; returns their ids."""
    gone = abandoned()
    for lab_id in gone:
        clean(lab_id)
    return gone
