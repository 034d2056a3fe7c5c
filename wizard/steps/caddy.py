"""Caddy: its repository, trusted by the pinned key alone, and its package, with nothing else restarted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from ..apt import CADDY_PREREQUISITES, finish_cut_off, install, refresh_one
from ..caddyfile import PACKAGED_CADDYFILE
from ..engine import Look, Step
from ..model import Action, CaddyRuns, Effect, FileIs, Finding, Level, ListensOn, Remove, Run, UnitIs, Write
from ..parse.keyring import Key, dearmor, read_keyring
from ..paths import CADDY_ROOT, CADDYFILE
from ..server import FileState

KEYRING = "/usr/share/keyrings/caddy-stable-archive-keyring.gpg"
LIST = "/etc/apt/sources.list.d/caddy-stable.list"
FETCH_TIMEOUT_S = 30


def inspect(look: Look) -> Iterator[Finding]:
    packages = look.server.packages("caddy", *CADDY_PREREQUISITES)
    caddy = packages["caddy"]
    half = tuple(name for name, package in packages.items() if package.half_configured)
    missing = tuple(name for name in CADDY_PREREQUISITES if not packages[name].installed)
    keyring = check_keyring(look)
    yield keyring
    if keyring.level is Level.BLOCKED:
        return
    yield check_list(look)
    if half:
        yield to_finish(look, half, missing, installed=caddy.installed)
    elif not caddy.installed:
        yield to_install(look, missing)
    else:
        yield check_origin(look, caddy.version)
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


def check_keyring(look: Look) -> Finding:
    """The keyring holds the pinned key and no other, able to sign now; else it is fetched again, and checked first."""
    pinned = look.answers.caddy.key_fingerprint
    state = look.server.read(KEYRING)
    now = datetime.fromtimestamp(look.server.now(), UTC)
    wrong = judge(read_keyring(state.content), pinned, now) if state else "it is missing"
    if state and state.mode & 0o444 != 0o444:
        wrong = wrong or "apt cannot read it"
    if not wrong:
        return Finding("caddy.keyring", Level.OK, f"apt trusts Caddy's key {short(pinned)} for its repository alone")
    url = f"{look.answers.caddy.repository}/gpg.key"
    fetched = look.server.fetch(url, FETCH_TIMEOUT_S)
    if fetched.status != 200:
        return Finding(
            "caddy.keyring",
            Level.BLOCKED,
            f"the repository's key could not be fetched: {fetched.error or fetched.status}",
            remedy=f"does this server reach the internet? curl -v {url}",
            evidence={"url": url},
        )
    refused = judge(read_keyring(fetched.body), pinned, now)
    binary = dearmor(fetched.body)
    if refused or binary is None:
        return Finding(
            "caddy.keyring",
            Level.BLOCKED,
            f"the key at {url} is refused: {refused or 'it is no OpenPGP key'}",
            remedy="ask Caddy's maintainers before you trust another key (caddy.key_fingerprint in the answers)",
            evidence={"pinned": pinned, "found": [key.fingerprint for key in read_keyring(fetched.body)]},
        )
    return Finding(
        "caddy.keyring",
        Level.DRIFT,
        f"apt's copy of Caddy's key: {wrong}",
        evidence={"fingerprint": pinned},
        fix=(Write(KEYRING, binary, f"the key {short(pinned)}, checked against the pinned one", binary=True),),
    )


def judge(keys: tuple[Key, ...], pinned: str, now: datetime) -> str:
    """What is wrong with a keyring, or "": one key, the pinned one, and live."""
    if not keys:
        return "it is no OpenPGP key"
    others = [key.fingerprint for key in keys if key.fingerprint != pinned]
    if others:
        return f"its fingerprint is {others[0]}, and not the pinned {pinned}"
    if not keys[0].signs(now):
        return "it has expired or was revoked"
    return ""


def short(fingerprint: str) -> str:
    return f"…{fingerprint[-16:]}"


def check_list(look: Look) -> Finding:
    base = repository_of(look)
    wanted = (
        "# Source: Caddy\n# Site: https://github.com/caddyserver/caddy\n# Repository: Caddy / stable\n"
        f"# Description: Fast, multi-platform web server with automatic HTTPS\n\ndeb {base}\n\ndeb-src {base}\n"
    )
    state = look.server.read(LIST)
    if state is not None and has_entry(look, state):
        return Finding("caddy.list", Level.OK, f"apt knows {look.answers.caddy.repository}")
    return Finding(
        "caddy.list",
        Level.DRIFT,
        "apt does not know Caddy's repository" if state is None else f"{LIST} says something else",
        fix=(Write(LIST, wanted.encode(), "Caddy's own repository, signed by that key alone"),),
    )


def repository_of(look: Look) -> str:
    return f"[signed-by={KEYRING}] {look.answers.caddy.repository}/deb/debian any-version main"


def has_entry(look: Look, state: FileState) -> bool:
    return f"deb {repository_of(look)}" in _entries(state.text)


def _entries(text: str) -> set[str]:
    return {" ".join(line.split()) for line in text.splitlines() if line.strip() and not line.startswith("#")}


def refresh(look: Look) -> Run:
    why = "fetch the index of Caddy's repository, and of no other"
    return replace(refresh_one(LIST, why), otherwise=without_list(look))


def without_list(look: Look) -> tuple[Action, ...]:
    """Where apt refuses the index, it is not left to ask there again: the list is as it was before ours."""
    state = look.server.read(LIST)
    if state is None or look.owned.is_written(LIST):
        return (Remove(LIST, "apt refuses this repository's index: it is not asked there again"),)
    if state.kind != "file" or has_entry(look, state):
        return ()
    why = "apt refuses the new repository's index: the list is put back"
    return (Write(LIST, state.content, why, mode=state.mode, owner=state.owner, group=state.group),)


def package_makes(look: Look) -> tuple[Effect, ...]:
    """What the package makes true. A Caddyfile that is there before it is kept, as we tell dpkg."""
    brought = FileIs(CADDYFILE, PACKAGED_CADDYFILE)
    return (
        UnitIs("caddy.service", active=True, enabled=True),
        FileIs("/usr/bin/caddy", b"", 0o755),
        *((brought, ListensOn("caddy.service", (("::", 80),))) if look.server.read(CADDYFILE) is None else ()),
        CaddyRuns(CADDYFILE),
    )


def install_caddy(names: tuple[str, ...], makes: tuple[Effect, ...], *, again: bool = False) -> Run:
    undoes = (
        UnitIs("caddy.service", active=False, enabled=False, exists=False),
        FileIs("/usr/bin/caddy", None),
        FileIs(CADDYFILE, None),
        FileIs(CADDY_ROOT, None),
        ListensOn("caddy.service", ()),
    )
    return install((*names, "caddy"), "Caddy, as its makers package it", makes, undoes, again=again)


def to_install(look: Look, missing: tuple[str, ...]) -> Finding:
    return Finding(
        "caddy.package",
        Level.DRIFT,
        "Caddy is not installed",
        fix=(refresh(look), install_caddy(missing, package_makes(look))),
    )


def to_finish(look: Look, half: tuple[str, ...], missing: tuple[str, ...], *, installed: bool) -> Finding:
    """An installation that was cut off; what it had not come to is installed after."""
    if installed:
        rest = install(missing, "what the repository's own instructions ask for", again=True)
    elif "caddy" in half:
        rest = install_caddy(missing, (UnitIs("caddy.service", active=True, enabled=True),), again=True)
    else:
        rest = install_caddy(missing, package_makes(look), again=True)
    return Finding(
        "caddy.package",
        Level.DRIFT,
        f"only half installed: {', '.join(half)}; an earlier installation was cut off",
        fix=(refresh(look), finish_cut_off(), rest),
    )


def check_origin(look: Look, version: str) -> Finding:
    offered = look.server.offered(look.answers.caddy.repository, "caddy")
    if not offered or version in offered:
        source = "its own repository" if offered else "a source that apt's lists do not name any more"
        return Finding("caddy.package", Level.OK, f"Caddy {version} from {source}", evidence={"version": version})
    return Finding(
        "caddy.package",
        Level.WARN,
        f"Caddy {version} is not from its own repository (there: {', '.join(offered[-3:])})",
        remedy="to take the repository's: sudo apt-get install --reinstall caddy",
        evidence={"version": version, "offered": list(offered[-5:])},
    )


def check_enabled(look: Look) -> Finding:
    unit = look.server.units("caddy.service")["caddy.service"]
    if unit.is_enabled:
        return Finding("caddy.service", Level.OK, "caddy.service is enabled")
    if unit.enabled.startswith("masked"):
        return Finding(
            "caddy.service",
            Level.BLOCKED,
            "caddy.service is masked: somebody has forbidden it to run",
            remedy="if that is over: sudo systemctl unmask caddy.service",
        )
    enabled = UnitIs("caddy.service", enabled=True)
    undo = Run(("systemctl", "disable", "caddy.service"), "", makes=(UnitIs("caddy.service", enabled=False),))
    return Finding(
        "caddy.service",
        Level.DRIFT,
        "caddy.service is disabled: after a reboot there would be no endpoint",
        fix=(
            Run(
                ("systemctl", "enable", "caddy.service"),
                "start Caddy at boot",
                makes=(enabled,),
                undo=(undo,),
            ),
        ),
    )


STEP = Step(
    "caddy",
    "Caddy",
    inspect,
    about="The web server that receives HTTPS and passes /v1 on to vLLM.",
    help=(
        "Caddy comes from its makers' own package repository, as apt packages do: updates come with the system's. "
        "apt is told to trust their key for that repository alone, and the key's fingerprint is compared with the one "
        "that this program was made with.\n\n"
        "Nothing else is upgraded, and no other service is restarted by the installation."
    ),
)
