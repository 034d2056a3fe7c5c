"""What is built once and kept between labs, outside the checkout."""

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.machine import say

KEEP_SECONDS = 14 * 24 * 3600
HERE = Path(__file__).parent


def directory() -> Path:
    """Where the lab keeps what it built: VLLM_HTTPS_LAB_CACHE, or a directory under /var/cache."""
    path = Path(os.environ.get("VLLM_HTTPS_LAB_CACHE") or "/var/cache/vllm-https-setup-lab")
    path.mkdir(parents=True, exist_ok=True, mode=0o755)
    return path.resolve()


def key(*parts: object) -> str:
    """A short hash of what goes into a build."""
    return hashlib.sha256("\0".join(str(part) for part in parts).encode()).hexdigest()[:16]


def sources(*names: str) -> str:
    """A hash of the lab's own files (or directories of files): code that builds is part of the key."""
    digest = hashlib.sha256()
    for name in names:
        path = HERE / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(HERE)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def built(name: str, key: str, build: Callable[[Path], None]) -> Path:
    """The directory NAME-KEY of the cache; `build` fills it if it is not there yet.

    Built beside and renamed, under a lock: two callers do not build twice, and half a build is never seen.
    """
    place = directory() / f"{name}-{key}"
    if not place.exists():
        with locked(place.with_suffix(".lock")):
            if not place.exists():
                _build(place, name, build)
    os.utime(place)
    return place


def _build(place: Path, name: str, build: Callable[[Path], None]) -> None:
    beside = place.with_name(f".{place.name}.{os.getpid()}")
    begun = time.monotonic()
    say(f"building {place.name}")
    _prune(name)
    try:
        beside.mkdir()
        beside.chmod(0o755)
        build(beside)
        beside.rename(place)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    say(f"built {place.name} in {time.monotonic() - begun:.1f} s")


def _prune(name: str) -> None:
    """Remove builds of this name that nobody used for two weeks, and half builds of dead processes."""
    for old in directory().glob(f"{name}-????????????????"):
        if old.is_dir() and time.time() - old.stat().st_mtime > KEEP_SECONDS:
            shutil.rmtree(old, ignore_errors=True)
    for half in directory().glob(f".{name}-*.*"):
        if not Path("/proc", half.name.rpartition(".")[2]).exists():
            shutil.rmtree(half, ignore_errors=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive flock on `path` for the time of the block."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
