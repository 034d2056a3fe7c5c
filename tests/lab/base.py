"""The root file system that every host of the lab starts from, and its variants."""

import functools
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.lab import cache, layers
from tests.lab.archive import Internet, ensure_internet
from tests.lab.machine import KEYRING, require, run, say
from tests.lab.mirror import download

PACKAGES = (
    *("systemd", "systemd-sysv", "libpam-systemd", "dbus", "iptables", "nftables", "openssh-server", "curl", "gnupg"),
    *("ca-certificates", "sudo", "iproute2", "procps", "python3", "hostname", "netbase", "openssl", "locales-all"),
)
# What an install may have to bring: on the lab's internet, with all that it needs.
ON_THE_INTERNET = (
    *("ufw", "debian-keyring", "debian-archive-keyring", "apt-transport-https", "curl", "gnupg", "python3-venv"),
    "tmux",  # what operators keep a long login in
    *("nginx", "firewalld", "iptables-persistent", "docker.io", "busybox-static"),  # what a server has already
    *("fail2ban", "nmap", "testssl.sh"),  # what bans, and what scans from outside
    "caddy",  # Debian's own, years old, as Ubuntu's is
)
SUITES = ("bookworm", "trixie")
VLLM_ID = 990  # user and group; fixed, so that files can be made before the first boot


@dataclass(frozen=True)
class Base:
    """A built base: overlay layers (bottom first) and the internet that belongs to it."""

    suite: str
    key: str
    layers: tuple[Path, ...]
    internet: Internet


def ensure_base(suite: str = "bookworm") -> Base:
    """The base for a Debian suite; builds what the cache lacks (one to two minutes, needs a Debian mirror)."""
    require()
    return _base(suite, str(cache.directory()))


@functools.cache
def _base(suite: str, _cache: str) -> Base:
    root_key = cache.key(suite, PACKAGES, ON_THE_INTERNET, "1")
    downloaded = cache.built(f"root-{suite}", root_key, functools.partial(_download, suite))
    internet = ensure_internet(suite, downloaded / "debs", root_key)
    key = cache.key(root_key, internet.key, cache.sources("base.py", "layers.py", "files/base"))

    def configure(into: Path) -> None:
        layers.change(
            [downloaded / "root"],
            (cache.HERE / "files/base/configure.sh").read_text(),
            into=into / "upper",
            binds={cache.HERE / "files/base": "/tmp/base", internet.path: "/tmp/internet"},
        )

    own = cache.built(f"base-{suite}", key, configure)
    return Base(suite, key, (downloaded / "root", own / "upper"), internet)


def ensure_packages(base: Base, packages: Iterable[str]) -> tuple[Path, ...]:
    """The base's layers with these Debian packages installed on top; built once per set."""
    names = tuple(sorted(packages))
    if not names:
        return base.layers

    def install(into: Path) -> None:
        script = (
            "printf '#!/bin/sh\\nexit 101\\n' >/tmp/policy; install /tmp/policy /usr/sbin/policy-rc.d\n"
            "sed 's,http://archive.lab,file:/tmp/internet/archive.lab,' /etc/apt/sources.list >/tmp/sources.list\n"
            "o='-o Dir::Etc::sourcelist=/tmp/sources.list -o Dir::State::lists=/tmp/lists -o APT::Sandbox::User=root'\n"
            "mkdir -p /tmp/lists/partial; apt-get $o -q update\n"
            f"apt-get $o -y -q install --no-install-recommends {' '.join(names)}\n"
            "apt-get clean; rm -f /usr/sbin/policy-rc.d /var/cache/apt/*.bin\n"
        )
        layers.change(base.layers, script, into=into / "upper", binds={base.internet.path: "/tmp/internet"})

    place = cache.built(f"packages-{base.suite}", cache.key(base.key, names, "1"), install)
    return (*base.layers, place / "upper")


def _download(suite: str, into: Path) -> None:
    """The only part that needs the outside world: debootstrap, and the packages for the lab's internet."""
    mirror = _mirror(suite)
    say(f"debootstrap {suite} from {mirror or 'the default mirror'}")
    proxy = re.search(r"'(.*)'", run(["apt-config", "shell", "P", "Acquire::http::Proxy"]).stdout)
    env = dict(os.environ) | ({"http_proxy": proxy[1]} if proxy else {})
    run(
        [
            *("debootstrap", "--variant=minbase", f"--keyring={KEYRING}", f"--include={','.join(PACKAGES)}"),
            *(suite, f"{into}/root", *([mirror] if mirror else [])),
        ],
        env=env,
        timeout=1800,
    )
    download(into / "root", into / "debs", ON_THE_INTERNET, with_needed=True)
    run(["sh", "-c", 'rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/var/log/*.log', "sh", into / "root"])


def _mirror(suite: str) -> str | None:
    """The mirror that the machine's own apt uses for this suite, or for another of Debian's; None where it has none."""
    wanted = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
    rows = [line.split() for line in run(wanted, check=False).stdout.splitlines()]
    same = [row[0] for row in rows if row[1:] == [suite, "main"]]
    sibling = [row[0] for row in rows if row[1] in SUITES and row[0].rstrip("/").endswith("/debian")]
    return next(iter(same + sibling), None)
