"""Overlay layers: a change to a root file system, made in a throw-away overlay and kept as a directory."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab.cache import HERE
from tests.lab.machine import SEARCH_PATH, run


def lowerdir(layers: Sequence[Path]) -> str:
    """The overlay's lowerdir option; `layers` is bottom first, overlayfs wants the top first."""
    return ":".join(str(layer) for layer in reversed(layers))


def change(
    layers: Sequence[Path],
    script: str,
    *,
    into: Path,
    binds: Mapping[Path, str] | None = None,
    timeout: float = 600,
) -> None:
    """Run a shell script inside the root that `layers` make, without a network; what it changed ends up in `into`.

    `binds` maps directories of the machine to read-only places inside. Mounts live in a namespace of their
    own and are gone with it, however this ends.
    """
    into.mkdir(exist_ok=True)
    into.chmod(0o755)  # the top layer's own mode is that of the root directory
    scratch = into.with_name(into.name + ".scratch")
    scratch.mkdir()
    pairs = [word for source, target in (binds or {}).items() for word in (str(source), target)]
    try:
        run(
            [
                *("unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"),
                *("sh", f"{HERE}/files/chroot.sh", lowerdir(layers), f"{into}", f"{scratch}", script, *pairs),
            ],
            timeout=timeout,
            env={"PATH": SEARCH_PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
