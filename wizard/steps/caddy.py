"""Caddy: its repository, trusted by the pinned key alone, and its package, with nothing else restarted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..apt import CADDY_PREREQUISITES, finish_cut_off, install, refresh_one
from ..boot import enable, is_masked, unmask
from ..caddy_build import PROGRAM, Build, check_own_build, check_without_package, find_build
from ..caddy_source import LIST, Entry, check_keyring, check_list, choose, expect_key, without_list
from ..caddy_version import lacking, newest, numbers
from ..caddyfile import PACKAGED_CADDYFILE
from ..engine import Look, Step
from ..model import Effect, FileIs, Finding, Impact, Level, ListensOn, PackageIs, Run, UnitIs
from ..paths import CADDY_HOME, CADDY_ROOT, CADDY_SERVICE, CADDYFILE
from ..queries import ALL_PACKAGES, begin_together
from ..server import Package

CADDY_USER = "caddy"
HOME = FileIs(CADDY_HOME, b"", 0o750, CADDY_USER, CADDY_USER)
RELOAD = Run(("systemctl", "daemon-reload"), "systemd learns of Caddy's service")
# deb-systemd-helper(1p): a package that was removed, and not purged, has its unit masked, until it is there again.
MASKED_BY_DPKG = f"/var/lib/systemd/deb-systemd-helper-masked/{CADDY_SERVICE}"


def inspect(look: Look) -> Iterator[Finding]:
    begin_together(look.server, (look.answers.vllm.unit, CADDY_SERVICE), ALL_PACKAGES)
    packages = look.server.packages("caddy", *CADDY_PREREQUISITES)
    caddy = packages["caddy"]
    half = tuple(name for name, package in packages.items() if package.half_configured)
    missing = tuple(name for name in CADDY_PREREQUISITES if not packages[name].installed)
    build = find_build(look, caddy)
    stands_in_the_way = [*check_others(look, caddy, build), *check_hindrances(look)]
    yield from stands_in_the_way
    # The key first where Caddy is not there yet: where it is refused, apt is asked nothing.
    entry, wrong = choose(look) if caddy.installed else (None, None)
    does = caddy.installed and (build.is_own or not lacking(look, caddy.version))
    keyring = wrong or check_keyring(look, entry, goes_on=does)
    yield keyring
    if any(one.level is Level.BLOCKED for one in (*stands_in_the_way, keyring)):
        return
    if not caddy.installed:
        entry, wrong = choose(look)
        if wrong is not None:
            yield wrong
            return
    if keyring.level is not Level.WARN:
        yield from check_list(look, entry)
    if half:
        yield to_finish(look, half, missing, entry, installed=caddy.installed)
    elif not caddy.installed:
        yield to_install(look, missing, entry)
    elif not build.is_own:
        yield from check_version(look, caddy, entry)
    if caddy.installed and missing and not half:
        yield Finding(
            "caddy.prerequisites",
            Level.DRIFT,
            f"not installed: {', '.join(missing)}",
            fix=(install(missing, "what the repository's own instructions ask for"),),
        )
    elif not missing:
        yield Finding("caddy.prerequisites", Level.OK, "what the repository's instructions ask for is installed")
    if caddy.installed and not caddy.half_configured:
        yield check_enabled(look)
        yield from check_home(look)
        yield from check_restored(look)


def check_hindrances(look: Look) -> Iterator[Finding]:
    """What stands in the way of a restore. Most looks have none, and do not load what one is made of."""
    if look.archive is not None:
        from .. import restored

        yield from restored.check_hindrances(look)


def check_restored(look: Look) -> Iterator[Finding]:
    if look.archive is not None:
        from .. import restored

        yield from restored.check(look)


def refresh(look: Look, entry: Entry | None = None) -> Run:
    why = "fetch the index of Caddy's repository, and of no other"
    if entry is not None and entry.path != LIST:
        return refresh_one(entry.path, why)
    return replace(refresh_one(LIST, why), otherwise=without_list(look))


def check_others(look: Look, caddy: Package, build: Build) -> Iterator[Finding]:
    """A Caddy that is not the package's, and what forbids the package's."""
    unit = look.server.units(CADDY_SERVICE)[CADDY_SERVICE]
    if caddy.installed:
        yield from check_own_build(look, build)
    elif unit.load == "masked":
        if look.server.read(MASKED_BY_DPKG) is None:
            yield masked()
    elif unit.load == "loaded" and not caddy.half_configured:
        yield check_without_package(build)


def package_makes(look: Look) -> tuple[Effect, ...]:
    """What the package makes true. A Caddyfile that is there before it is kept, as we tell dpkg."""
    brought = () if look.server.read(CADDYFILE) else (FileIs(CADDYFILE, PACKAGED_CADDYFILE),)
    return UnitIs(CADDY_SERVICE, active=False, enabled=True), FileIs(PROGRAM, b"", 0o755), HOME, *brought


def install_caddy(
    names: tuple[str, ...], makes: tuple[Effect, ...], *, again: bool = False, starts: bool = False
) -> Run:
    """Not started, where it is new: the package's own Caddyfile would have it serve a page of welcome on port 80."""
    undoes = (
        UnitIs("caddy.service", active=False, enabled=False, exists=False),
        FileIs(PROGRAM, None),
        FileIs(CADDYFILE, None),
        FileIs(CADDY_HOME, None),
        FileIs(CADDY_ROOT, None),
        ListensOn("caddy.service", ()),
    )
    return install((*names, "caddy"), "Caddy, as its makers package it", makes, undoes, again=again, starts=starts)


def to_install(look: Look, missing: tuple[str, ...], entry: Entry | None) -> Finding:
    return Finding(
        "caddy.package",
        Level.DRIFT,
        "Caddy is not installed",
        fix=(refresh(look, entry), install_caddy(missing, package_makes(look)), RELOAD),
    )


def to_finish(
    look: Look, half: tuple[str, ...], missing: tuple[str, ...], entry: Entry | None, *, installed: bool
) -> Finding:
    """An installation that was cut off; what it had not come to is installed after."""
    rest: tuple[Run, ...]
    if installed:
        rest = (install(missing, "what the repository's own instructions ask for", again=True),)
    elif "caddy" in half:
        running = (UnitIs(CADDY_SERVICE, active=True, enabled=True),)
        rest = (install_caddy(missing, running, again=True, starts=True),)
    else:
        rest = (install_caddy(missing, package_makes(look), again=True), RELOAD)
    return Finding(
        "caddy.package",
        Level.DRIFT,
        f"only half installed: {', '.join(half)}; an earlier installation was cut off",
        fix=(refresh(look, entry), finish_cut_off(), *rest),
    )


def check_version(look: Look, caddy: Package, entry: Entry | None) -> Iterator[Finding]:
    """Caddy is upgraded where our Caddyfile needs that, and not for being old."""
    offered = look.server.offered(entry.uri if entry else look.answers.caddy.repository, "caddy")
    too_old = lacking(look, caddy.version)
    if too_old:
        yield check_upgrade(look, caddy, entry, offered)
        return
    if caddy.held:
        yield Finding(
            "caddy.held",
            Level.WARN,
            f"the package caddy is on hold at {caddy.version}: no security update reaches it",
            "if that is over: sudo apt-mark unhold caddy; sudo apt-get install --only-upgrade caddy",
        )
    yield check_origin(caddy.version, offered)
    last = newest(offered)
    if caddy.version in offered and numbers(last) > numbers(caddy.version):
        summary = f"Caddy {last} is there; nothing here needs it: sudo apt-get install --only-upgrade caddy"
        yield Finding("caddy.newer", Level.INFO, summary, evidence={"version": caddy.version, "newest": last})


def check_upgrade(look: Look, caddy: Package, entry: Entry | None, offered: tuple[str, ...]) -> Finding:
    """Ubuntu's own archive has a Caddy of 2022, which does not understand our Caddyfile."""
    too_old = lacking(look, caddy.version)
    wanted = too_old[-1].version
    lacks = "; ".join(need.what for need in too_old)
    summary = f"Caddy {caddy.version} is too old, {wanted} is needed: it lacks {lacks}"
    evidence = {"version": caddy.version, "needed": wanted, "lacks": [need.what for need in too_old]}
    if caddy.held:
        remedy = "it is on hold; to let it be upgraded: sudo apt-mark unhold caddy; then run this again"
        return Finding("caddy.held", Level.BLOCKED, summary, remedy, evidence)
    if offered and lacking(look, newest(offered)):
        repository = entry.uri if entry else look.answers.caddy.repository
        summary += f", and {repository} has {newest(offered)} at most"
        remedy = "see whether the mirror is up to date: sudo apt-get update; apt-cache policy caddy; or leave "
        remedy += "caddy.repository out of the answers, for Caddy's own"
        return Finding("caddy.too_old", Level.BLOCKED, summary, remedy, evidence)
    why = f"upgrade Caddy, which is restarted once: {wanted} is needed"
    makes = (UnitIs(CADDY_SERVICE, active=True, enabled=True), PackageIs("caddy", True, wanted))
    upgrade = install(("caddy",), why, makes)
    # An older version may be had nowhere any more, and a newer one does all that it did.
    kept = replace(upgrade, undo=(), makes=makes, impact=Impact.RESTART_CADDY)
    return Finding("caddy.package", Level.DRIFT, summary, evidence=evidence, fix=(refresh(look, entry), kept))


def check_origin(version: str, offered: tuple[str, ...]) -> Finding:
    if not offered or version in offered:
        source = "its own repository" if offered else "a source that apt's lists do not name any more"
        return Finding("caddy.package", Level.OK, f"Caddy {version} from {source}", evidence={"version": version})
    return Finding(
        "caddy.package",
        Level.WARN,
        f"Caddy {version} is not from its own repository (there: {', '.join(offered[-3:])})",
        remedy=f"to take the repository's: sudo apt-get install --allow-downgrades caddy={newest(offered)}",
        evidence={"version": version, "offered": list(offered[-5:])},
    )


def masked() -> Finding:
    summary = "caddy.service is masked: somebody has forbidden it to run"
    return Finding("caddy.service", Level.BLOCKED, summary, unmask(CADDY_SERVICE))


def check_enabled(look: Look) -> Finding:
    unit = look.server.units(CADDY_SERVICE)[CADDY_SERVICE]
    if unit.is_enabled:
        return Finding("caddy.service", Level.OK, "caddy.service is enabled")
    if is_masked(unit):
        return masked()
    summary = "caddy.service is disabled: after a reboot there would be no endpoint"
    return Finding("caddy.service", Level.DRIFT, summary, fix=(enable(CADDY_SERVICE, "start Caddy at boot"),))


def check_home(look: Look) -> Iterator[Finding]:
    """Where Caddy keeps its CA and certificates: the package makes it once, and Caddy itself is not allowed to."""
    if look.server.units(CADDY_SERVICE)[CADDY_SERVICE].is_active:
        return
    if look.server.read(CADDY_HOME) is not None:
        return
    make = Run(
        ("install", "-d", "-m", "0750", "-o", CADDY_USER, "-g", CADDY_USER, CADDY_HOME),
        "where Caddy keeps its certificates",
        makes=(HOME,),
    )
    yield Finding("caddy.home", Level.DRIFT, f"{CADDY_HOME} is missing: Caddy can't keep its certificates", fix=(make,))


STEP = Step(
    "caddy",
    "Caddy",
    inspect,
    begin=expect_key,
    about="The web server that receives HTTPS and passes /v1 on to vLLM.",
    help=(
        "Caddy comes from its makers' own package repository, as apt packages do: updates come with the system's. "
        "apt is told to trust their key for that repository alone, and the key's fingerprint is compared with the one "
        "that this program was made with.\n\n"
        "Nothing else is upgraded, and no other service is restarted by the installation."
    ),
)
