"""Harden: what production asks for beside encryption, each part by itself, and only where it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..engine import Look, Step
from ..hardening import is_wanted
from ..model import Finding
from ..questions import Choice, Kind, Question

ID = "harden"


def inspect(look: Look) -> Iterator[Finding]:
    """What each part finds. One that is turned off takes away what it had put there."""
    # Most servers are asked for none of it, and wait for none of it to be loaded.
    from ..harden import PARTS

    for check in PARTS:
        yield from check(look)


def is_concerned(look: Look) -> bool:
    """Whether anything of it is asked for, or was put there by an earlier run."""
    put_there = {one.step for one in look.owned.files.values()} | {one.step for one in look.owned.commands}
    return is_wanted(look.answers) or ID in put_there


CHOICES = (
    Choice(False, "Not now", "encrypted is what it is then; this can be done later"),
    Choice(
        True,
        "Recommended",
        "limits, bans, confined services, a watch; installs fail2ban, restarts vLLM once",
    ),
)


def ask(look: Look, seen: Sequence[Finding]) -> Iterator[Question]:
    """All of it or nothing, and who may use the API; single parts are for the answers file."""
    yield Question("harden.recommended", "Harden this server", Kind.ONE, CHOICES)
    harden = look.answers.harden
    if harden.recommended or harden.allow_from:
        yield Question("harden.allow_from", "Allowed from", Kind.LIST, otherwise="everybody who has a key")
    if harden.recommended:
        sits = look.operator.address if look.operator else ""
        yield Question("harden.never_ban", "Never banned", Kind.LIST, otherwise=f"this server{sits and f', {sits}'}")


STEP = Step(
    ID,
    "Harden",
    inspect,
    ask=ask,
    concerns=is_concerned,
    about="Limits, bans, and services that can do no more than they must.",
    help=(
        "None of this is needed for an encrypted endpoint; a server that others can reach is better off with it. "
        "Each line says what it costs.\n\n"
        "Limits keep one client from using up what all share. Bans shut the web ports, and never SSH, to an address "
        "that tries keys. Confined services can be broken into and still reach little. A watch tells of what has "
        "changed since, in the journal.\n\n"
        "All of it can be turned off again here, and uninstall takes it away."
    ),
)
