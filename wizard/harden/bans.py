"""Whoever tries keys is shut out for a while: fail2ban reads Caddy's access log, and shuts the web ports alone.

What fail2ban runs with is told by itself: the jail's action carries a digest of our files. Where we have installed it,
the jail `sshd` that its package switches on is off: nobody asked for that, and it can shut out who administers this.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..apt import finish_cut_off, install, purge, refresh_system
from ..boot import enable, is_masked, unmask
from ..engine import Look
from ..hardening import LOOPBACK, chosen
from ..model import Action, Effect, Finding, Impact, Level, Probe, QuerySays, Remove, Run, Then, UnitIs, Wait, Write
from ..package_removal import goes, is_brought
from ..parse.fail2ban import parse_banned, parse_logs
from ..paths import ACCESS_LOG
from ..render import render
from ..server import Server
from .exempt import OPERATORS, networks, operators, own, written

PACKAGE, UNIT, JAIL_NAME = "fail2ban", "fail2ban.service", "vllm-https"
DIRECTORY = "/etc/fail2ban"
FILTER, JAIL = f"{DIRECTORY}/filter.d/{JAIL_NAME}.conf", f"{DIRECTORY}/jail.d/{JAIL_NAME}.conf"
WITHIN_S = 600
QUIET = "\n[sshd]\nenabled = false\n"
DIGEST = ("fail2ban-client", "get", JAIL_NAME, "action", "nftables", "digest")
STATUS = ("fail2ban-client", "status", JAIL_NAME)
NOBODY_YET = f"Status for the jail: {JAIL_NAME}\n|  `- File list:\t{ACCESS_LOG} {FILTER}\n   `- Banned IP list:\t\n"
# It answers some tenths of a second after systemd calls it started; on a busy server it has taken seconds.
START_S = 30


@dataclass(frozen=True)
class Wanted:
    """Our two files, and the digest of both that fail2ban is to have loaded."""

    filter: bytes
    jail: bytes
    digest: str
    never: tuple[str, ...]
    quiet: bool

    @property
    def loaded(self) -> tuple[Effect, ...]:
        return (QuerySays(DIGEST, f"{self.digest}\n"), QuerySays(STATUS, NOBODY_YET))


def check(look: Look) -> Iterator[Finding]:
    """The jail in its files, fail2ban itself, and whom it has banned now."""
    if not chosen(look.answers, "ban_wrong_keys"):
        yield from clear_away(look)
        return
    wanted = files_wanted(look)
    files = check_files(look, wanted)
    service = check_service(look, wanted, told=files.level is Level.DRIFT and not wanted.quiet)
    yield from (files, service)
    if service.level is Level.OK and (banned := parse_banned(look.server.query(STATUS).out)):
        shown = ", ".join(banned[:3]) + (f" and {len(banned) - 3} more" if len(banned) > 3 else "")
        yield Finding("harden.banned", Level.INFO, f"banned now: {shown}", evidence={"addresses": list(banned)})


def is_quiet(look: Look, jail: str) -> bool:
    """Whether fail2ban is here for us alone; our file remembers it, where a run was killed or its record is gone."""
    is_there = look.server.packages(PACKAGE)[PACKAGE].installed
    return not is_there or QUIET in jail or is_brought(look.owned, PACKAGE)


def files_wanted(look: Look) -> Wanted:
    present = look.server.read(JAIL)
    text = present.text if present is not None and present.kind == "file" else ""
    operating = operators(look, text)
    quiet = is_quiet(look, text)
    never = (*LOOPBACK, *own(look), *map(written, networks(look, operating)))
    harden = look.answers.harden
    filter_text = render("fail2ban_filter.conf.j2")

    def jail(digest: str) -> str:
        return render(
            "fail2ban_jail.conf.j2",
            operators=f"{OPERATORS}{' '.join(operating)}" if operating else "# No operator has logged in yet.",
            log=ACCESS_LOG,
            filter=FILTER,
            after=harden.ban_after,
            within=WITHIN_S,
            seconds=harden.ban_seconds,
            never=dict.fromkeys(never),
            quiet=quiet,
            digest=digest,
        )

    digest = hashlib.sha256((filter_text + jail("")).encode()).hexdigest()[:16]
    return Wanted(filter_text.encode(), jail(digest).encode(), digest, tuple(dict.fromkeys(never)), quiet)


def check_files(look: Look, wanted: Wanted) -> Finding:
    harden = look.answers.harden
    contents = {FILTER: wanted.filter, JAIL: wanted.jail}
    present = {path: look.server.read(path) for path in contents}
    wrong = [path for path, state in present.items() if state is None or state.content != contents[path]]
    if not wrong:
        summary = f"{harden.ban_after} wrong keys within {WITHIN_S // 60} minutes shut an address out of 80 and 443"
        summary += f" for {harden.ban_seconds} s; SSH is never shut"
        return Finding("harden.bans", Level.OK, summary, evidence={"never": list(wanted.never)})
    # Before the package: it starts with what is here then. What others have it for, it is told of, and not without us.
    then = () if wanted.quiet else (told(look, wanted),)
    fix = tuple(Write(path, contents[path], _why(path), then=then) for path in wrong)
    is_new = any(state is None for state in present.values())
    summary = "whoever tries keys is not banned yet" if is_new else "the bans are not as the answers have them"
    return Finding("harden.bans", Level.DRIFT, summary, fix=fix)


def _why(path: str) -> str:
    return "what a wrong key is in the access log" if path == FILTER else "when an address is banned, and for how long"


def told(look: Look, wanted: Wanted) -> Then:
    """fail2ban takes up what its files say; whoever is banned stays so."""
    argv, why = ("systemctl", "reload-or-restart", UNIT), "fail2ban takes its files up"
    there = Then(argv, why, Impact.NONE, makes=(UnitIs(UNIT, active=True), *wanted.loaded))
    if look.server.units(UNIT)[UNIT].is_active:
        return there
    stop = Then(("systemctl", "stop", UNIT), "it did not run before", Impact.NONE, makes=(UnitIs(UNIT, active=False),))
    return replace(there, back=stop)


def check_service(look: Look, wanted: Wanted, *, told: bool) -> Finding:
    """fail2ban itself. `told`: it takes its files up as soon as they are written."""
    package = look.server.packages(PACKAGE)[PACKAGE]
    started = wait_until_loaded(wanted)
    if not package.installed:
        up: tuple[Effect, ...] = (UnitIs(UNIT, active=True, enabled=True), *wanted.loaded)
        gone = (UnitIs(UNIT, active=False, enabled=False, exists=False),)
        bring = install((PACKAGE,), "it reads the access log, and bans", up, gone, again=package.half_configured)
        begin = finish_cut_off() if package.half_configured else refresh_system(look.server)
        return Finding("harden.fail2ban", Level.DRIFT, "fail2ban is not installed", fix=(begin, bring, started))
    unit = look.server.units(UNIT)[UNIT]
    if is_masked(unit):
        summary = f"{UNIT} is masked, somebody has forbidden it to run: nobody is banned"
        return Finding("harden.fail2ban", Level.BLOCKED, summary, unmask(UNIT))
    fix: list[Action] = [] if unit.is_enabled else [_enable(quiet=wanted.quiet)]
    summary = "" if unit.is_enabled else f"{UNIT} is disabled: after a reboot nobody would be banned"
    if told:
        summary, fix = "fail2ban does not know of it yet", [*fix, started]
    elif not unit.is_active or not is_loaded(look.server, wanted):
        up = (UnitIs(UNIT, active=True), *wanted.loaded)
        load = Run(("systemctl", "reload-or-restart", UNIT), "fail2ban takes its files up", makes=up)
        summary = "fail2ban does not have what its files say" if unit.is_active else "fail2ban does not run"
        summary, fix = f"{summary}: nobody is banned as the answers say", [*fix, load, started]
    if fix:
        return Finding("harden.fail2ban", Level.DRIFT, summary, fix=tuple(fix))
    return Finding("harden.fail2ban", Level.OK, "fail2ban runs with that, now and after reboots")


def _enable(*, quiet: bool) -> Run:
    """Where the package goes again, so does this; systemctl could not disable what is gone."""
    command = enable(UNIT, "bans also after reboots")
    return replace(command, undo=()) if quiet else command


def is_loaded(server: Server, wanted: Wanted) -> bool:
    """Whether fail2ban runs with our files, and reads the access log."""
    digest = server.query(DIGEST, timeout_s=20)
    if not digest.ok or digest.out.strip() != wanted.digest:
        return False
    return ACCESS_LOG in parse_logs(server.query(STATUS, timeout_s=20).out)


def wait_until_loaded(wanted: Wanted) -> Wait:
    """systemd calls it started before it answers."""

    def until(server: Server) -> Probe:
        return Probe(True) if is_loaded(server, wanted) else Probe(None, "fail2ban does not answer with them yet")

    why = "it answers some moments after its start"
    return Wait(
        "fail2ban has the bans", why, START_S, until, makes=wanted.loaded, interval_s=0.2, shell=shlex.join(STATUS)
    )


def clear_away(look: Look) -> Iterator[Finding]:
    """Our files, and fail2ban where an earlier run has brought it; nobody is banned any more."""
    left = [path for path in (JAIL, FILTER) if look.owned.is_written(path) and look.server.read(path) is not None]
    package_goes = goes(look.server, look.owned, PACKAGE)
    if not left and not package_goes:
        return
    then: tuple[Then, ...] = ()
    if left and not package_goes and look.server.units(UNIT)[UNIT].is_active:
        argv = ("systemctl", "reload-or-restart", UNIT)
        then = (Then(argv, "fail2ban forgets them, and lets in whom it had banned for us", Impact.NONE),)
    fix: list[Action] = [Remove(path, "no longer asked for", then=then) for path in left]
    if package_goes:
        gone = UnitIs(UNIT, active=False, enabled=False, exists=False)
        fix.append(purge((PACKAGE,), "an earlier run brought it", (gone,)))
    yield Finding("harden.bans_left", Level.DRIFT, "bans are left of an earlier run", fix=tuple(fix))
