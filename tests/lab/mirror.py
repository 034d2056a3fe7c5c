"""Packages from the Debian mirror that a root was made from."""

import re
from collections.abc import Sequence
from pathlib import Path

from tests.lab.machine import KEYRING, run


def download(root: Path, into: Path, packages: Sequence[str], *, with_needed: bool = False) -> None:
    """Put the .deb files of these packages into `into` (with all that `root` lacks for them, if wanted)."""
    scratch = into.with_name(into.name + ".apt")
    (scratch / "lists/partial").mkdir(parents=True)
    into.mkdir(exist_ok=True)
    used = (root / "etc/apt/sources.list").read_text()
    (scratch / "sources.list").write_text(re.sub(r"^deb ", f"deb [signed-by={KEYRING}] ", used, flags=re.M))
    apt = [
        *("apt-get", "-q", "-y", "-o", f"Dir::Etc::sourcelist={scratch}/sources.list"),
        *("-o", "Dir::Etc::sourceparts=-", "-o", f"Dir::State={scratch}"),
        *("-o", f"Dir::State::status={root}/var/lib/dpkg/status", "-o", f"Dir::Cache={scratch}"),
        *("-o", "APT::Sandbox::User=root", "-o", "Dir::Log=/dev/null", "-o", "APT::Install-Recommends=false"),
        *("-o", f"Dir::Cache::archives={into}"),
    ]
    run([*apt, "update"])
    for package in packages if with_needed else ():  # one at a time: some can't be installed beside another
        run([*apt, "install", "--download-only", package])
    run([*apt, "download", *packages], cwd=into)
    run(["rm", "-rf", scratch, into / "partial", into / "lock"])
