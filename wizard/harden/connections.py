"""What one address may have of connections to the web ports: a table of nftables' own, beside ufw's rules.

Caddy from the package limits nothing by address, and its own limits come after a connection has cost it memory. The
table is made by a unit at boot, before Caddy serves, and by nothing else: it is compared with what the kernel has.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..boot import is_masked, unmask
from ..engine import Look
from ..hardening import chosen
from ..model import Action, Finding, Level, QuerySays, Remove, Run, UnitIs, Write
from ..paths import CONNECTIONS_RULES, CONNECTIONS_SERVICE, OWN_TABLE, UNITS
from ..render import render
from .exempt import OPERATORS, networks, operators, written

UNIT_PATH = f"{UNITS}/{CONNECTIONS_SERVICE}"
# Without the sets' elements (-t), which are whoever is connected, and without counters (-s).
LOADED = ("nft", "-s", "-t", "list", "table", "inet", OWN_TABLE)
# Made anew as a whole: what is not there can't be deleted, what is there twice is made once.
ANEW = f"table inet {OWN_TABLE}\ndelete table inet {OWN_TABLE}\n"
HEADER = """\
# Made by vllm-https-setup, and checked by every run of it: a hand edit is put back. What is to be otherwise belongs
# into the answers (harden). An address of IPv6 counts with all of its /64: one customer of a provider has that many.
"""


def check(look: Look) -> Iterator[Finding]:
    """The limits as they are asked for, in the file and in the kernel."""
    if any(limits(look)):
        yield check_rules(look)
    else:
        yield from clear_away(look)


def limits(look: Look) -> tuple[int | None, int | None]:
    """Connections of one address at once, and new ones a minute; None for any number."""
    return chosen(look.answers, "connections_per_address"), look.answers.harden.new_connections_per_minute


def check_rules(look: Look) -> Finding:
    present = look.server.read(CONNECTIONS_RULES)
    file, table = rules(look, present.text if present else "")
    unit_text = render("connections.service.j2", rules=CONNECTIONS_RULES, table=OWN_TABLE)
    unit = look.server.units(CONNECTIONS_SERVICE)[CONNECTIONS_SERVICE]
    if is_masked(unit):
        summary = f"{CONNECTIONS_SERVICE} is masked, somebody has forbidden it to run: connections are not limited"
        return Finding("harden.connections", Level.BLOCKED, summary, unmask(CONNECTIONS_SERVICE))
    writes: list[Action] = []
    if present is None or present.content != file.encode():
        check_first = ("nft", "-c", "-f", "{path}")
        writes.append(Write(CONNECTIONS_RULES, file.encode(), "the limits, as nftables has them", validate=check_first))
    if (known := look.server.read(UNIT_PATH)) is None or known.content != unit_text.encode():
        writes.append(Write(UNIT_PATH, unit_text.encode(), "what loads them, at boot too"))
    loads = not writes and unit.is_active and unit.is_enabled and is_loaded(look, table)
    if loads:
        return Finding("harden.connections", Level.OK, f"limited: {' and '.join(said(look))}")
    up = (UnitIs(CONNECTIONS_SERVICE, active=True, enabled=True), QuerySays(LOADED, table))
    enable = Run(
        ("systemctl", "enable", CONNECTIONS_SERVICE),
        "the limits are also there after a reboot",
        makes=(UnitIs(CONNECTIONS_SERVICE, active=unit.is_active, enabled=True),),
        undo=(ended(),),
    )
    # Enabling reads the files again, too; and what is enabled already is not to be ended by a rollback of this run.
    at_boot = read_again() if unit.is_enabled else enable
    load = Run(("systemctl", "reload-or-restart", CONNECTIONS_SERVICE), "the limits hold from now on", makes=up)
    if present is None:
        summary = "connections of one address are not limited yet"
    elif writes:
        summary = "the limits of connections are not as the answers have them"
    else:
        summary = "the limits of connections are in their file, and the kernel does not have them so"
    return Finding("harden.connections", Level.DRIFT, summary, fix=(*writes, at_boot, load))


def said(look: Look) -> Iterator[str]:
    at_once, per_minute = limits(look)
    if at_once:
        yield f"one address has {at_once} connections at once"
    if per_minute:
        yield f"{per_minute} new ones a minute"


def rules(look: Look, present: str) -> tuple[str, str]:
    """The file, and of it the table as `nft list` shows it. `present` is what the file says now."""
    at_once, per_minute = limits(look)
    operating = operators(look, present)
    never = [("ip" if one.version == 4 else "ip6", written(one)) for one in networks(look, operating)]
    table = render("connections.nft.j2", table=OWN_TABLE, never=never, per_minute=per_minute, at_once=at_once)
    named = f"{OPERATORS}{' '.join(operating)}\n" if operating else ""
    return f"{HEADER}{named}{ANEW}{table}", table


def is_loaded(look: Look, table: str) -> bool:
    """Whether the kernel has this table, however the tool breaks its lines."""
    output = look.server.query(LOADED)
    return output.ok and output.out.split() == table.split()


def read_again() -> Run:
    return Run(("systemctl", "daemon-reload"), "systemd reads its units again")


def ended() -> Run:
    gone = UnitIs(CONNECTIONS_SERVICE, active=False, enabled=False, exists=False)
    makes = (gone, QuerySays(LOADED, "", 1))
    return Run(("systemctl", "disable", "--now", CONNECTIONS_SERVICE), "the limits end", makes=makes)


def clear_away(look: Look) -> Iterator[Finding]:
    """The unit, whose end takes the table out of the kernel, and its files."""
    ours = [path for path in (UNIT_PATH, CONNECTIONS_RULES) if look.owned.is_written(path)]
    left = [path for path in ours if look.server.read(path) is not None]
    if not left:
        return
    end = (ended(),) if UNIT_PATH in left else ()
    removed = (Remove(path, "no longer asked for") for path in left)
    fix = (*end, *removed, *((read_again(),) if end else ()))
    yield Finding("harden.connections_left", Level.DRIFT, "limits of connections are left of an earlier run", fix=fix)
