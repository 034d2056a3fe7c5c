"""A Caddy that is not the package's: run by another path, or put into the package's place by dpkg-divert."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .caddy_version import lacking
from .engine import Look
from .model import Finding, Level
from .paths import CADDY_SERVICE
from .server import Package

PROGRAM = "/usr/bin/caddy"
DIVERSIONS = "/var/lib/dpkg/diversions"
KEY = "caddy.custom_build"
_PATH = re.compile(r"\bpath=(\S+)")


@dataclass(frozen=True)
class Build:
    """What caddy.service runs, and the unit's file. `diverted`: dpkg puts the package's own program elsewhere."""

    program: str = ""
    unit_file: str = ""
    diverted: bool = False

    @property
    def is_own(self) -> bool:
        """True where it is not the package's."""
        return self.program not in ("", PROGRAM) or self.diverted


def find_build(look: Look, caddy: Package) -> Build:
    unit = look.server.units(CADDY_SERVICE)[CADDY_SERVICE]
    runs = _PATH.search(unit.properties.get("ExecStart", ""))
    diverted = caddy.installed and _is_diverted(look)
    return Build(runs[1] if runs else "", unit.properties.get("FragmentPath", ""), diverted)


def _is_diverted(look: Look) -> bool:
    """dpkg's own list, three lines each: the path, where it goes to, and the package that is exempt."""
    state = look.server.read(DIVERSIONS)
    lines = state.text.splitlines() if state is not None else []
    return any(path == PROGRAM and exempt != "caddy" for path, exempt in zip(lines[::3], lines[2::3], strict=False))


def check_own_build(look: Look, build: Build) -> Iterator[Finding]:
    """Beside an installed package: what runs is as good as the package's, or too old for our Caddyfile."""
    if not build.is_own:
        return
    program = build.program or PROGRAM
    version = _version(look, program)
    evidence = {"unit": build.unit_file, "program": program, "version": version, "diverted": build.diverted}
    named = f"caddy.service runs {program}{f' {version}' if version else ''}"
    why = "by dpkg-divert it is not the package's" if build.diverted else "which is not the package's"
    back = (
        f"sudo mv {PROGRAM} /root/; sudo dpkg-divert --rename --remove {PROGRAM}; "
        f"sudo systemctl restart {CADDY_SERVICE}"
        if build.diverted
        else f"systemctl cat {CADDY_SERVICE}; take out the lines that name {program}; sudo systemctl daemon-reload; "
        f"sudo systemctl restart {CADDY_SERVICE}"
    )
    if look.answers.harden.requests_per_minute:
        # The package's would not start with a Caddyfile that limits requests.
        back = f"take harden.requests_per_minute out of the answers, and apply; {back}"
    if too_old := lacking(look, version):
        lacks = "; ".join(need.what for need in too_old)
        summary = f"{named}, {why}, and too old: {too_old[-1].version} is needed, it lacks {lacks}"
        remedy = f"put a newer build there; or, to go back to the package's: {back}; then run this again"
        yield Finding(KEY, Level.BLOCKED, summary, remedy, evidence)
    else:
        summary = f"{named}, {why}: no update of the system reaches it"
        yield Finding(KEY, Level.WARN, summary, f"to go back to the package's: {back}", evidence)


def as_caddy(program: str, *words: str) -> tuple[str, ...]:
    """A program that no package brought is asked as the user that the service runs it as."""
    return ("runuser", "-u", "caddy", "--", program, *words)


def _version(look: Look, program: str) -> str:
    """As it says itself; "" where it does not."""
    output = look.server.query(as_caddy(program, "version"), timeout_s=10)
    found = re.match(r"v?(\d+\.\d+\S*)", output.out.strip()) if output.ok else None
    return found[1] if found else ""


def check_without_package(build: Build) -> Finding:
    """The package would take over the unit of a Caddy that somebody has installed by hand."""
    file, program = build.unit_file, build.program
    return Finding(
        KEY,
        Level.BLOCKED,
        f"there is a Caddy that no package brought: {program or 'unknown'}, run by {file or CADDY_SERVICE}",
        f"to have the package take its place: sudo systemctl disable --now {CADDY_SERVICE}; "
        f"sudo mv {file or '/etc/systemd/system/caddy.service'} {program or '/usr/local/bin/caddy'} /root/; "
        "sudo systemctl daemon-reload; then run this again (/etc/caddy stays)",
        {"unit": file, "program": program},
    )
