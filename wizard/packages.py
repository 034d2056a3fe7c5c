"""What preflight says of apt and dpkg: whether they are in order, and who is in their way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .apt import CADDY_PREREQUISITES
from .engine import Look
from .model import Finding, Level
from .parse.apt import faults_of_sources, parse_packages
from .parse.host import parse_assignments, parse_locks, parse_space
from .queries import ALL_PACKAGES, APT_PROXY, HELD_LOCKS, SPACE
from .server import read_through

OURS = ("caddy", "ufw", *CADDY_PREREQUISITES)
SOURCES = "/etc/apt/sources.list"
DPKG_LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock")
LOCKS = (*DPKG_LOCKS, "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock")
MIB = 1024 * 1024
# Caddy unpacked, its package, and apt's lists; and what an installation should leave.
LEAST_FREE, LOW_FREE = 200 * MIB, 1024 * MIB
LEAST_INODES = 500


def check_packages(look: Look) -> Iterator[Finding]:
    foreign = [name for name in look.server.half_configured() if name not in OURS]
    at_work = ", ".join(f"{program} (process {pid})" for pid, program in holders(look, DPKG_LOCKS).items())
    if foreign and at_work:
        # Unattended-upgrades at a boot: nobody is to meddle with what is under way.
        yield Finding(
            "preflight.packages",
            Level.INFO,
            f"{', '.join(foreign[:5])}: being installed right now, by {at_work}",
            evidence={"packages": foreign},
        )
    elif foreign:
        yield Finding(
            "preflight.packages",
            Level.BLOCKED,
            f"packages are only half installed: {', '.join(foreign[:5])}",
            remedy="sudo dpkg --configure -a; then sudo apt-get install -f",
            evidence={"packages": foreign},
        )
    else:
        yield Finding("preflight.packages", Level.OK, "apt and dpkg are in order")
    yield from check_held(look)
    yield from check_lock(look)
    yield from check_sources(look)
    yield from check_configuration(look)
    yield from check_space(look)


def check_held(look: Look) -> Iterator[Finding]:
    """apt refuses to install what is held, and says so after everything else is under way."""
    found = look.server.packages("caddy", *(("ufw",) if look.answers.firewall.manage else ()))
    ufw = found.get("ufw")
    if ufw is not None and ufw.installed and ufw.held:
        summary = f"ufw {ufw.version} is on hold (apt-mark hold): it stays as it is"
        yield Finding("preflight.held", Level.INFO, summary)
    absent = [name for name, package in found.items() if not package.installed]
    # Of what is not installed dpkg speaks only where it is asked by name; its exit code is 1 where it knows none.
    said = look.server.query((*ALL_PACKAGES, "--", *absent)).out if absent else ""
    for known in parse_packages(said):
        if known.held:
            yield Finding(
                "preflight.held",
                Level.BLOCKED,
                f"{known.name} is on hold and not installed: apt refuses to install it",
                remedy=f"sudo apt-mark unhold {known.name}; then check again",
            )


def holders(look: Look, paths: Sequence[str]) -> dict[int, str]:
    """The processes that hold one of these locks, with their programs."""
    output = look.server.query(HELD_LOCKS, timeout_s=10)
    return dict(sorted((lock.pid, lock.program) for lock in parse_locks(output.out) if lock.path in paths))


def check_lock(look: Look) -> Iterator[Finding]:
    held = holders(look, LOCKS)
    if held:
        named = ", ".join(f"{program} (process {pid})" for pid, program in held.items())
        yield Finding(
            "preflight.apt_lock",
            Level.INFO,
            f"apt is locked by {named} now: where something is to be installed, its end is waited for, up to 10 min",
            evidence={"holders": [{"pid": pid, "program": program} for pid, program in held.items()]},
        )


def check_sources(look: Look) -> Iterator[Finding]:
    """A repository that does not answer is no matter; a file of sources that apt can't read stops all that apt does."""
    directory = f"{SOURCES}.d"
    names = [one for one in look.server.names(directory) if one.endswith((".list", ".sources"))]
    for path in (SOURCES, *(f"{directory}/{name}" for name in names)):
        state = read_through(look.server, path)
        faults = faults_of_sources(path, state.text) if state is not None and state.kind == "file" else ()
        if faults:
            line, what = faults[0]
            yield Finding(
                "preflight.apt_sources",
                Level.BLOCKED,
                f"apt can't read {path}, line {line}: {what}; it does nothing while that is so",
                remedy=f"put the line right, or move the file away: sudo mv {path} /root/; then sudo apt-get update",
                evidence={"path": path, "faults": [f"line {number}: {fault}" for number, fault in faults]},
            )


def check_configuration(look: Look) -> Iterator[Finding]:
    output = look.server.query(APT_PROXY, timeout_s=10)
    if not output.ok:
        yield Finding(
            "preflight.apt_configuration",
            Level.BLOCKED,
            f"apt does not run: {output.last_words}",
            remedy="put right what it names, below /etc/apt/apt.conf.d; then sudo apt-get check",
        )
        return
    proxies = [value for value in dict.fromkeys(parse_assignments(output.out).values()) if value != "DIRECT"]
    if proxies:
        yield Finding(
            "preflight.apt_proxy",
            Level.INFO,
            f"apt goes through a proxy ({', '.join(proxies)}), which is for apt alone: the repository's key and what a "
            "CA is asked go out directly",
            evidence={"proxies": proxies},
        )


def check_space(look: Look) -> Iterator[Finding]:
    output = look.server.query(SPACE, timeout_s=10)
    for space in parse_space(output.out):
        evidence = {"target": space.target, "free_mib": space.free_bytes // MIB, "inodes": space.inodes}
        largest = f"sudo du -xh {space.target} | sort -h | tail"
        remedy = f"make room: sudo apt-get clean; sudo journalctl --vacuum-size=200M; {largest}"
        if space.inodes is not None and space.inodes < LEAST_INODES:
            yield Finding(
                "preflight.space",
                Level.BLOCKED,
                f"{space.target} has room for {space.inodes} more files: an installation would be cut off",
                remedy=f"delete small files: sudo du -x --inodes {space.target} | sort -n | tail",
                evidence=evidence,
            )
        elif space.free_bytes < LEAST_FREE:
            yield Finding(
                "preflight.space",
                Level.BLOCKED,
                f"{space.target} has {space.free_bytes // MIB} MiB left: an installation would be cut off",
                remedy=remedy,
                evidence=evidence,
            )
        elif space.free_bytes < LOW_FREE:
            yield Finding(
                "preflight.space",
                Level.WARN,
                f"{space.target} has {space.free_bytes // MIB} MiB left: enough for now, but logs grow",
                remedy=remedy,
                evidence=evidence,
            )
