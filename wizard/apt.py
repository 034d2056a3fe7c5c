"""apt as this program calls it: no question, no restart of other services, locks waited for and their holder named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .model import Effect, Output, PackageIs, Run
from .parse.apt import is_locked, parse_deb822, parse_lock_holder, parse_sources_list
from .server import Server, read_through

ENVIRONMENT = (
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("NEEDRESTART_SUSPEND", "1"),
    ("APT_LISTCHANGES_FRONTEND", "none"),
    ("UCF_FORCE_CONFOLD", "1"),
)
# systemctl then leaves PID 1 alone (systemd's ENVIRONMENT.md): a package's script enables its service, and starts none.
STARTS_NOTHING = (("SYSTEMD_OFFLINE", "1"),)
QUIET = ("-y", "-q", "-o", "Dpkg::Use-Pty=0")
KEEP_CONFIGURATION = ("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold")
CADDY = "caddy"
# What the instructions of Caddy's repository ask for.
CADDY_PREREQUISITES = ("debian-keyring", "debian-archive-keyring", "apt-transport-https", "curl")
# Ubuntu's since 24.04, Debian's since 13, and both's before that.
SYSTEM_SOURCES = (
    "/etc/apt/sources.list.d/ubuntu.sources",
    "/etc/apt/sources.list.d/debian.sources",
    "/etc/apt/sources.list",
)
LOCK_WAIT_S = 600
TIMEOUT_S = 1800


def held_by(output: Output) -> str | None:
    """Who holds apt's lock, where that is why it failed: apt waits for dpkg's lock alone, not for the lists'."""
    text = output.out + output.err
    if not is_locked(text):
        return None
    pid, name = parse_lock_holder(text)
    return f"apt is locked by {name or 'another process'}{f' (process {pid})' if pid else ''}: waiting for it"


def _apt(argv: tuple[str, ...], why: str, makes: tuple[Effect, ...] = (), undo: tuple[Run, ...] = ()) -> Run:
    return Run(
        argv,
        why,
        timeout_s=TIMEOUT_S,
        undo=undo,
        makes=makes,
        environment=ENVIRONMENT,
        retry=held_by,
        retry_s=LOCK_WAIT_S,
    )


def install(
    names: tuple[str, ...],
    why: str,
    makes: tuple[Effect, ...] = (),
    undoes: tuple[Effect, ...] = (),
    *,
    again: bool = False,
    starts: bool = True,
) -> Run:
    """Installs the packages; nothing else is upgraded, restarted or asked. `again`: those that are there too, for
    apt takes a package that was cut off while it was unpacked for installed. `starts`: their services, too."""
    flags = (*QUIET, *KEEP_CONFIGURATION, "--no-install-recommends", *(("--reinstall",) if again else ()))
    argv = ("apt-get", "install", *flags, "--", *names)
    undo = purge(names, f"take back: {why}", undoes)
    run = _apt(argv, why, (*(PackageIs(name, True) for name in names), *makes), (undo,))
    return run if starts else replace(run, environment=(*ENVIRONMENT, *STARTS_NOTHING))


def purge(names: tuple[str, ...], why: str, makes: tuple[Effect, ...] = ()) -> Run:
    """Removes the packages and what they keep in /etc and /var."""
    gone = (*(PackageIs(name, False) for name in names), *makes)
    return _apt(("apt-get", "purge", *QUIET, "--", *names), why, gone)


def remove(names: tuple[str, ...], why: str) -> Run:
    """Removes the packages; their configuration and data stay."""
    return _apt(("apt-get", "remove", *QUIET, "--", *names), why, tuple(PackageIs(name, False) for name in names))


def installed_by(argv: Sequence[str]) -> tuple[str, ...]:
    """The packages that a command of `install` installs; none for any other command."""
    words = tuple(argv)
    return words[words.index("--") + 1 :] if words[:2] == ("apt-get", "install") and "--" in words else ()


def refresh_one(list_path: str, why: str) -> Run:
    """Fetches the index of one list alone, and fails where that fails (apt's own default is to go on)."""
    return _apt((*_refresh(list_path), "-o", "APT::Update::Error-Mode=any"), why)


def refresh_system(server: Server) -> Run:
    """Fetches the system's own package lists: where a repository of others is gone, apt would call all of it failed."""
    for path in SYSTEM_SOURCES:
        state = read_through(server, path)
        if state is None or state.kind != "file":
            continue
        entries = parse_deb822(state.text) if path.endswith(".sources") else parse_sources_list(state.text)
        if any(entry.enabled and "deb" in entry.types for entry in entries):
            return _apt(_refresh(path), "fetch the system's package lists")
    return _apt(("apt-get", "update", "-q"), "fetch the package lists")


def refreshes(argv: Sequence[str], list_path: str) -> bool:
    """Whether this is the command that fetches the index of this list."""
    return tuple(argv) == refresh_one(list_path, "").argv


def _refresh(list_path: str) -> tuple[str, ...]:
    """Without the last option the other lists would be deleted."""
    return (
        *("apt-get", "update", "-q"),
        *("-o", f"Dir::Etc::sourcelist={list_path}", "-o", "Dir::Etc::sourceparts=-"),
        *("-o", "APT::Get::List-Cleanup=0"),
    )


def finish_cut_off() -> Run:
    """Goes on where an installation was cut off: apt itself refuses to, and names this command."""
    return _apt(("dpkg", "--configure", "--force-confdef", "--force-confold", "--pending"), "finish the installation")
