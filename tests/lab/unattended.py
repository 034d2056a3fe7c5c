"""The real unattended-upgrades, with an update to install that takes as long as a test wants."""

import textwrap
from pathlib import Path

from tests.lab import cache, layers
from tests.lab.base import Base
from tests.lab.machine import run
from tests.lab.mirror import download
from tests.lab.server import Server
from tests.lab.space import Deadline

UPDATES = "/srv/updates"
LET_GO = "/run/let-go"
NAME = "lab-slow"
# Installs nothing: it is the package's own script that takes its time, and with it dpkg, and both's locks.
POSTINST = f"#!/bin/sh\nuntil [ -e {LET_GO} ]; do sleep 0.1; done\n"
FILES = {
    "/etc/apt/sources.list.d/updates.list": f"deb [trusted=yes] file:{UPDATES} ./\n",
    "/etc/apt/apt.conf.d/60lab": """\
APT::Periodic::Enable "1";
APT::Periodic::Unattended-Upgrade "1";
Unattended-Upgrade::Origins-Pattern { "origin=Lab"; };
""",
    # As on a server that was off when its hour came: soon after the boot, and not before that has ended.
    "/etc/systemd/system/apt-daily-upgrade.timer.d/lab.conf": (
        "[Timer]\nOnCalendar=\nRandomizedDelaySec=0\nAccuracySec=100ms\nOnBootSec=6s\n"
    ),
}


def ensure_unattended_upgrades(base: Base) -> Path:
    """A layer that has it, and a package that has an update; built once, from the base's own mirror."""

    def build(into: Path) -> None:
        download(base.layers[0], into / "debs", ["unattended-upgrades"], with_needed=True)
        package(into / "debs", "1")
        updates = into / f"upper{UPDATES}"
        updates.mkdir(parents=True)
        package(updates, "2", POSTINST)
        (updates / "Packages").write_text(run(["apt-ftparchive", "packages", "."], cwd=updates).stdout)
        release = run(["apt-ftparchive", "-oAPT::FTPArchive::Release::Origin=Lab", "release", "."], cwd=updates)
        (updates / "Release").write_text(release.stdout)
        layers.change(
            base.layers,
            "printf '#!/bin/sh\\nexit 101\\n' >/tmp/policy; install -m 0755 /tmp/policy /usr/sbin/policy-rc.d\n"
            "dpkg -i /tmp/debs/*.deb; rm -f /usr/sbin/policy-rc.d /var/log/*.log\n"
            "rm -f /etc/systemd/system/*.wants/unattended-upgrades.service\n",
            into=into / "upper",
            binds={into / "debs": "/tmp/debs"},
        )

    key = cache.key(base.key, cache.sources("unattended.py"))
    return cache.built(f"unattended-{base.suite}", key, build) / "upper"


def package(into: Path, version: str, postinst: str = "") -> None:
    """A Debian package with nothing in it."""
    tree = into / ".tree"
    (tree / "DEBIAN").mkdir(parents=True)
    control = f"""\
        Package: {NAME}
        Version: {version}
        Architecture: all
        Maintainer: Lab <lab@archive.lab>
        Description: What takes long to be installed
        """
    (tree / "DEBIAN/control").write_text(textwrap.dedent(control))
    if postinst:
        (tree / "DEBIAN/postinst").write_text(postinst)
        (tree / "DEBIAN/postinst").chmod(0o755)
    run(["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", tree, into / f"{NAME}_{version}_all.deb"])
    run(["rm", "-rf", tree])


def boot_into_an_upgrade(server: Server) -> None:
    """Reboots the server; returns when unattended-upgrades is at work there, and has apt locked until `let_go`."""
    for path, content in FILES.items():
        server.put(path, content.encode())
    server.run(["apt-get", "update", "-q", "-o", "Dir::Etc::sourcelist=/dev/null", "-o", "APT::Get::List-Cleanup=0"])
    server.run(["systemctl", "enable", "-q", "apt-daily-upgrade.timer"])
    server.reboot()
    until = Deadline("unattended-upgrades to install", 90)
    while not server.run(["pgrep", "-f", f"{NAME}.postinst"], check=False).stdout:
        until.tick(0.1)


def let_go(server: Server) -> None:
    server.put(LET_GO, b"")
