"""The memory of a process, from outside of its server."""

from pathlib import Path


def peak(pid: int) -> float | None:
    """The most memory that a process has had so far, in MiB; None where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), None)
