"""The watch: a timer of ours that runs `vllm-https-setup watch`, and what it tells of changes is checked here first."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from ..custom import PROGRAM
from ..engine import Look
from ..hardening import chosen
from ..model import Action, FileIs, Finding, Level, Remove, Run, UnitIs, Write
from ..paths import UNITS, WATCH_SEEN, WATCH_SERVICE, WATCH_TIMER
from ..prometheus import is_anothers
from ..render import render
from ..root_file import flaw_of_directory, flaw_of_program

TIMER, SERVICE = f"{UNITS}/{WATCH_TIMER}", f"{UNITS}/{WATCH_SERVICE}"
FIRST_S = 120  # after a boot: by then most models have been loaded
LEAST_LIMIT_S = 900
UP = UnitIs(WATCH_TIMER, active=True, enabled=True)
GONE = UnitIs(WATCH_TIMER, active=False, enabled=False, exists=False)
STOP = (
    Run(("systemctl", "disable", "--now", WATCH_TIMER), "end the watch", makes=(GONE,)),
    Run(("systemctl", "stop", WATCH_SERVICE), "and a look that is under way"),
)
RELOAD = Run(("systemctl", "daemon-reload"), "systemd takes the unit files up")
MAKE = ("install", "-m", "0644", "/dev/null")


def check(look: Look) -> Iterator[Finding]:
    """The timer, and what it tells of changes; where no watch is wanted, what an earlier run left of it."""
    if not chosen(look.answers, "watch"):
        yield from _clear_away(look)
        return
    yield from _check_notices(look)
    yield from _check_timer(look)
    yield from _check_metrics(look)


def unit_files(look: Look) -> dict[str, str]:
    """The unit files' texts by their paths."""
    minutes = look.answers.harden.watch_minutes
    # Two looks, each with the model's own time limit twice, and as long again for all else.
    limit = max(LEAST_LIMIT_S, 5 * look.answers.test.timeout)
    timer = render("watch.timer.j2", first_s=FIRST_S, minutes=minutes, delay_s=minutes * 6, service=WATCH_SERVICE)
    return {SERVICE: render("watch.service.j2", program=PROGRAM, limit_s=limit), TIMER: timer}


def _check_timer(look: Look) -> Iterator[Finding]:
    wanted = unit_files(look)
    wrong = [path for path, text in wanted.items() if not _is(look, path, text.encode())]
    unit = look.server.units(WATCH_TIMER)[WATCH_TIMER]
    if not wrong and unit.is_active and unit.is_enabled:
        said = f"every {look.answers.harden.watch_minutes} minutes all is looked at and tested; what changes is told"
        yield Finding("harden.watch", Level.OK, f"{said}: journalctl -u {WATCH_SERVICE}")
        return
    why = "look again and again, and tell of what has changed"
    writes: tuple[Action, ...] = tuple(Write(path, wanted[path].encode(), why) for path in wrong)
    enable = Run(("systemctl", "enable", WATCH_TIMER), "also after a reboot", undo=STOP, makes=(UP,))
    start = Run(("systemctl", "restart", WATCH_TIMER), "from now on", makes=(UP,))
    yield Finding("harden.watch", Level.DRIFT, "nobody watches the endpoint yet", fix=(*writes, RELOAD, enable, start))


def _is(look: Look, path: str, content: bytes) -> bool:
    state = look.server.read(path)
    return state is not None and (state.kind, state.content) == ("file", content)


def _check_notices(look: Look) -> Iterator[Finding]:
    harden = look.answers.harden
    if harden.notify_url:
        # A webhook's address is what lets in whoever knows it.
        look.mask.add(harden.notify_url)
        host = harden.notify_url.removeprefix("https://").partition("/")[0]
        yield Finding("harden.notify_url", Level.OK, f"changes are posted to {host}")
    if path := harden.notify_command:
        flaw, remedy = flaw_of_program(look.server, path)
        if flaw:
            summary = f"{flaw}: root does not run it (harden.notify_command)"
            yield Finding("harden.notify_command", Level.BLOCKED, summary, remedy)
        else:
            yield Finding("harden.notify_command", Level.OK, f"{path} is run on each change")


def _check_metrics(look: Look) -> Iterator[Finding]:
    """The text file: made at once, so that it is known as ours. What is in it is the watch's to say."""
    yield from _clear_files(look)
    path = look.answers.harden.prometheus_file
    if path is None:
        return
    directory = posixpath.dirname(path)
    state = look.server.read(path)
    if flaw := flaw_of_directory(look.server, directory):
        remedy = f"sudo install -d -o root -g root -m 0755 {directory}; or name another place: harden.prometheus_file"
        yield Finding("harden.prometheus_file", Level.BLOCKED, f"{flaw}, and a file in it is written by root", remedy)
    elif is_anothers(state):
        summary = f"{path} is there, and not from here: it is not written over"
        yield Finding("harden.prometheus_file", Level.BLOCKED, summary, "name another file: harden.prometheus_file")
    elif state is None:
        gone = Run(("rm", "-f", "--", path), "nobody writes it any more", makes=(FileIs(path, None),))
        make = Run((*MAKE, path), "the watch writes it with each look", undo=(gone,), makes=(FileIs(path, b""),))
        yield Finding("harden.prometheus_file", Level.DRIFT, f"{path} is not there yet", fix=(make,))
    else:
        yield Finding("harden.prometheus_file", Level.OK, f"each look writes {path}")


def _made(look: Look) -> dict[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """The commands that have made text files of metrics, and those that take them away."""
    return {one.argv: one.undo for one in look.owned.commands if one.argv[: len(MAKE)] == MAKE and not one.taken_back}


def _clear_files(look: Look) -> Iterator[Finding]:
    wanted = look.answers.harden.prometheus_file if chosen(look.answers, "watch") else None
    for argv, undo in _made(look).items():
        path = argv[-1]
        if path != wanted and look.server.read(path) is not None:
            fix = tuple(Run(words, "nobody writes it any more", makes=(FileIs(path, None),)) for words in undo)
            yield Finding("harden.prometheus_left", Level.DRIFT, f"{path} is left, and not written any more", fix=fix)


def _clear_away(look: Look) -> Iterator[Finding]:
    """Only what is known as ours is looked for: nobody else's timer has this name."""
    yield from _clear_files(look)
    left = [path for path in (TIMER, SERVICE) if path in look.owned.files and look.server.read(path) is not None]
    if not left:
        return
    why = "no watch is wanted any more"
    fix: list[Action] = [*STOP] if TIMER in left else []
    # The files go last: as long as one is there, the next run knows that there is something left to do.
    fix.append(Run(("rm", "-f", "--", WATCH_SEEN), "what it saw last", makes=(FileIs(WATCH_SEEN, None),)))
    fix += [*(Remove(path, why) for path in left), RELOAD]
    yield Finding("harden.watch_left", Level.DRIFT, "the units of the watch are left", fix=tuple(fix))
