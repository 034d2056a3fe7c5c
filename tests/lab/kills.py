"""Many kills, one after the other, each on a server of its own: what `tests/lab/kill` does."""

import argparse
import heapq
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.lab.killing import (
    Before,
    Instant,
    Kill,
    TooLate,
    assert_completed,
    assert_not_exposed,
    assert_reachable,
    assert_whole,
    kill_at,
    kill_process,
    lose_power,
    spare,
)
from tests.lab.lab import Lab
from tests.lab.machine import CommandFailed
from tests.lab.operator import Event, Operator, in_words
from tests.lab.program import ensure_program_layer
from tests.lab.server import Server
from tests.lab.site import Site
from tests.lab.spec import ServerSpec

MODES = ("internal", "acme", "custom")
# How each server is found: exposed as the guide has it, or behind a firewall already, which must never open.
STARTS = {
    "internal": ServerSpec(),
    "acme": ServerSpec(guide_packages=True),
    "custom": ServerSpec(guide_packages=True, ufw_enabled=True, ufw_rules=("allow 22/tcp",)),
}
SHORTEST_S = 0.03  # within a shorter action there is no other instant than its beginning
LATEST = 0.85  # of an action's duration: on the next server it may be quicker
TRIES = 3


@dataclass(frozen=True)
class Reference:
    """A run that nobody killed: its actions, and how long each took."""

    words: tuple[str, ...]
    seconds: tuple[float, ...]
    writes: tuple[str, ...]

    @classmethod
    def of(cls, events: Sequence[Event]) -> "Reference":
        began = [event for event in events if event["event"] == "action_began"]
        ended = [event for event in events if event["event"] == "action_ended"]
        changes = [event["change"] for event in began]
        writes = dict.fromkeys(one["path"] for one in changes if one["kind"] in ("write", "remove"))
        seconds = tuple(last["at"] - first["at"] for first, last in zip(began, ended, strict=True))
        return cls(tuple(in_words(changes)), seconds, tuple(writes))


def choose_instants(reference: Reference, count: int, seed: int = 0) -> list[Instant]:
    """The beginning of every action; and what is left of the count goes, one by one, into the widest gaps. A count
    below the number of actions takes them at even distances. Another seed is within the actions another moment."""
    chance = random.Random(seed)
    number = len(reference.words)
    chosen = (
        range(number)
        if count >= number
        else sorted({round(i * (number - 1) / max(count - 1, 1)) for i in range(count)})
    )
    within = Counter[int]()
    gaps = [(-seconds, index) for index, seconds in enumerate(reference.seconds) if seconds > SHORTEST_S]
    heapq.heapify(gaps)
    for _ in range(count - number if gaps else 0):
        _, index = gaps[0]
        within[index] += 1
        heapq.heapreplace(gaps, (-reference.seconds[index] / (within[index] + 1), index))
    instants = [Instant(index + 1, reference.words[index]) for index in chosen]
    for index, times in within.items():
        step = LATEST * reference.seconds[index] / times
        shift = chance.random() if seed else 0.0
        moments = [step * (i - shift) for i in range(1, times + 1)]
        instants += [Instant(index + 1, reference.words[index], moment) for moment in moments]
    return sorted(instants, key=lambda one: (one.number, one.after))


@dataclass
class Fleet:
    """Servers of a mode that nothing has been done to yet, the next of them booting already."""

    lab: Lab
    program: Path
    mode: str
    _next: list[Server] = field(default_factory=list)

    def _boot(self) -> Server:
        return self.lab.boot(replace(STARTS[self.mode], layers=(self.program,)), wait=False)

    @contextmanager
    def site(self) -> Iterator[Site]:
        server = self._next.pop() if self._next else self._boot()
        try:
            server.wait_until_up()
            site = Site(self.lab, self.lab.acme(), Operator(self.lab, server))
            if self.mode != "internal":
                site.answer_mode(self.mode)
            self._next.append(self._boot())
            yield site
        finally:
            server.discard()

    def close(self) -> None:
        for server in self._next:
            server.discard()
        self._next.clear()


def refer(fleet: Fleet) -> Reference:
    with fleet.site() as site:
        document = site.operator.apply()
        assert document["exit_code"] == 0, document
        return Reference.of(site.operator.events())


def try_instant(site: Site, reference: Reference, instant: Instant, kill: Kill) -> None:
    """One kill, all that has to be so after it, and the run that completes it."""
    operator = site.operator
    before = Before.of(operator, reference.writes)
    killed = kill_at(operator, instant, kill=kill)
    assert_reachable(operator)
    assert_whole(operator, before)
    assert_not_exposed(operator, before)
    assert_completed(operator, operator.apply(), killed)


KILLS: dict[str, Kill] = {"killed": kill_process, "power lost": lose_power, "spared": spare}


@dataclass(frozen=True)
class Outcome:
    mode: str
    instant: Instant
    problem: str
    seconds: float


def describe(error: Exception) -> str:
    """What was not so, and the line that found it."""
    found = [frame for frame in traceback.extract_tb(error.__traceback__) if "/tests/lab/" in frame.filename]
    place = f"{Path(found[-1].filename).name}:{found[-1].lineno}: {found[-1].line}" if found else ""
    return f"{type(error).__name__}: {str(error).strip()[:600]} ({place})"


def kill_once(fleet: Fleet, reference: Reference, instant: Instant, how: str) -> Outcome:
    """A kill that counts: where the action was over too soon, it is tried again, and sooner."""
    began = time.monotonic()
    problem = ""
    for _ in range(TRIES):
        problem = ""
        try:
            with fleet.site() as site:
                try_instant(site, reference, instant, KILLS[how])
            break
        except TooLate as late:
            problem, instant = str(late), replace(instant, after=instant.after / 2)
        except (AssertionError, CommandFailed, TimeoutError, OSError) as error:
            problem = describe(error)
            break
    return Outcome(fleet.mode, instant, problem, time.monotonic() - began)


def kill_all(fleet: Fleet, count: int, seed: int, first: int, how: str) -> list[Outcome]:
    """All kills of a mode, each said when it is over."""
    outcomes: list[Outcome] = []
    try:
        reference = refer(fleet)
        instants = choose_instants(reference, count, seed)
        seconds = sum(reference.seconds)
        print(f"{fleet.mode}: {len(reference.words)} actions in {seconds:.1f} s, {len(instants)} instants", flush=True)
        for number, instant in enumerate(instants[first - 1 :], first):
            outcome = kill_once(fleet, reference, instant, how)
            outcomes.append(outcome)
            verdict = f"FAILED: {outcome.problem}" if outcome.problem else "completed"
            where = f"{fleet.mode} {number:3}/{len(instants)} {how} in {outcome.instant}"
            print(f"{where}: {verdict} ({outcome.seconds:.1f} s)", flush=True)
    except KeyboardInterrupt:
        print("stopped", flush=True)
    finally:
        fleet.close()
    return outcomes


def summarise(outcomes: Sequence[Outcome], how: str) -> Iterator[str]:
    """A table: for each mode how many, in how many different actions, and how many failed."""
    yield f"{'mode':10} {how:>10} {'actions':>8} {'at begin':>9} {'within':>7} {'failed':>7} {'seconds':>8}"
    for mode in dict.fromkeys(one.mode for one in outcomes):
        own = [one for one in outcomes if one.mode == mode]
        actions = {one.instant.number for one in own}
        within = sum(one.instant.after > 0 for one in own)
        failed = sum(bool(one.problem) for one in own)
        seconds = sum(one.seconds for one in own)
        yield f"{mode:10} {len(own):10} {len(actions):8} {len(own) - within:9} {within:7} {failed:7} {seconds:8.0f}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/lab/kill", description="Kills runs on booted servers. As root.")
    parser.add_argument("--mode", choices=(*MODES, "all"), default="all")
    parser.add_argument("--count", type=int, default=64, help="kills a mode (64)")
    parser.add_argument("--seed", type=int, default=0, help="other moments within the actions")
    parser.add_argument("--from", type=int, default=1, dest="first", metavar="N", help="begin with the N-th (1)")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--power", action="store_const", dest="how", const="power lost", default="killed")
    way.add_argument("--spare", action="store_const", dest="how", const="spared", help="kill nothing: all must fail")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    modes = MODES if options.mode == "all" else (options.mode,)
    program = ensure_program_layer(Path(__file__).resolve().parents[2])

    outcomes: list[Outcome] = []
    for mode in modes:
        with Lab() as lab:
            fleet = Fleet(lab, program, mode)
            outcomes += kill_all(fleet, options.count, options.seed, options.first, options.how)
    print(*summarise(outcomes, options.how), sep="\n")
    return 1 if not outcomes or any(one.problem for one in outcomes) else 0
