"""A new API key for vLLM: made here, written into its env file, taken up by a restart, and proved.

Of several services with vLLM it is one that gets it, and with it each other one that takes its key from the same file:
they are restarted one after the other, and each is tried.

The key is nowhere but in that file and in this process: no argument, log, report or backup has it. Nor is the old one
kept: a key is changed because somebody knows it who should not.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from . import checked, commands, files, journal, paths, runs
from .engine import Look, Step
from .model import Action, Finding, Impact, Level, ListensOn, Probe, Run, Secret, Then, VllmAnswers, Wait, Write
from .models import Model, models, units
from .parse.environment import with_value
from .report import document_of
from .server import FileState, Server
from .session import Session, plan_exit_code, report_of_plan
from .steps import STEPS
from .system import find_operator
from .vllm import Readiness, Vllm, answers_in_shell, find_vllm
from .vllm_environment import KEY_NAME

if TYPE_CHECKING:
    from .answers import Answers
    from .commands import Ask, Sure, Tell
    from .report import Document

COMMAND = "key"
KEY_BYTES = 32
MADE = "preflight.key_new"
PLACE = "preflight.key_place"
KEPT = "preflight.key_kept"
AGAIN = "then: sudo vllm-https-setup key new"


def make_key() -> Secret:
    """256 bits in hexadecimal signs: nothing in it means anything to systemd, a shell, or a URL."""
    return Secret(f"sk-{secrets.token_hex(KEY_BYTES)}")


def steps(*, proved: bool, unit: str = "") -> tuple[Step, ...]:
    """The step that makes one; where there is an endpoint to be `proved`, the final test with it."""
    tests = tuple(step for step in STEPS if step.prove is not None and proved)
    return (Step("preflight", "API key", NewKey(make_key(), unit)), *tests)


@dataclass(frozen=True)
class One:
    """A service that gets the key."""

    model: Model
    vllm: Vllm

    @property
    def again(self) -> str:
        return f"{AGAIN} --unit {self.model.unit}" if self.model.name else AGAIN


@dataclass(frozen=True)
class NewKey:
    """The look of that step: what it makes true is that vLLM has this key. `unit` is the service's; "" the first."""

    key: Secret
    unit: str = ""

    def __call__(self, look: Look) -> Iterator[Finding]:
        look.mask.add(self.key.reveal())
        served = [One(model, find_vllm(model.look)) for model in models(look)]
        named = next((one for one in served if one.model.unit == self.unit), served[0])
        vllm = named.vllm
        if vllm.key == self.key:
            having = [one for one in served if one.vllm.key == self.key]
            evidence = {"env_file": vllm.key_file, "units": [one.model.unit for one in having]}
            yield Finding(MADE, Level.OK, f"{_names(having, served)} has a new API key", evidence=evidence)
            yield from _kept([one for one in served if one not in having])
            return
        hindrance = find_hindrance(vllm, named.again)
        if hindrance is not None:
            yield hindrance
            return
        path = env_file(vllm)
        state = look.server.read(path)
        if state is not None and state.kind != "file":
            yield Finding(
                PLACE,
                Level.BLOCKED,
                f"{path} is a {state.kind}, not a file: no link is followed where a file is edited",
                f"name the file itself in the unit's EnvironmentFile=; {named.again}",
            )
            return
        content = with_value(state.content if state else b"", KEY_NAME, self.key.reveal())
        if content is None:
            yield Finding(
                PLACE,
                Level.BLOCKED,
                f"{path} can't be edited for certain: a quote in it is not closed, or {KEY_NAME} has several lines",
                f"put {KEY_NAME}=… on a line of its own: sudo nano {path}; {named.again}",
            )
            return
        sharing = [named, *(one for one in served if one is not named and takes_from(one.vllm, path))]
        whose = _names(sharing, served)
        summary = (
            f"the API key in {path} is replaced" if vllm.key else f"{whose} asks nobody for a key: {path} gets one"
        )
        if len(served) > 1 and vllm.key:
            summary += f": it is that of {whose}"
        yield Finding(MADE, Level.DRIFT, summary, fix=tuple(self.fix(sharing, path, state, content)))
        yield from _kept([one for one in served if one not in sharing])

    def fix(self, sharing: Sequence[One], path: str, state: FileState | None, content: bytes) -> Iterator[Action]:
        """The file is written, and one service after the other takes it up: two that load at once want one memory."""
        for number, one in enumerate(sharing):
            back = tuple(put_back(sharing[: number + 1], path, state))
            then = restarted(one.vllm)
            if number == 0:
                yield self.write(one.vllm, path, state, content, then, back)
            else:
                yield Run(then.argv, then.why, then.impact, then.timeout_s, makes=then.makes, otherwise=back)
            yield self.wait(one, back)

    def write(
        self, vllm: Vllm, path: str, state: FileState | None, content: bytes, then: Then, back: tuple[Action, ...]
    ) -> Write:
        return Write(
            path,
            content,
            f"a new {KEY_NAME}; the old one is not kept" if vllm.key else f"{KEY_NAME}, made here",
            mode=state.mode if state else 0o600,
            owner=state.owner if state else "root",
            group=state.group if state else "root",
            then=(then,),
            otherwise=back,
            private=True,
            keep_attributes=state is not None,
            lasting=True,
        )

    def wait(self, one: One, back: tuple[Action, ...]) -> Wait:
        vllm, name = one.vllm, one.vllm.unit.name
        return Wait(
            f"{name if one.model.name else 'vLLM'} takes the new key, and "
            f"{'the old one no more' if vllm.key else 'nobody without it'}",
            "the model is loaded again; then both are tried",
            one.model.look.answers.vllm.ready_timeout,
            Taken(one.model.look, self.key, vllm.key),
            makes=(VllmAnswers(vllm.port),),
            otherwise=back,
            fall_back_when_late=False,
            late=f"It has the new key, and goes on loading; its log: journalctl -u {name} -f",
            shell=answers_in_shell(vllm),
        )


def _names(some: Sequence[One], served: Sequence[One]) -> str:
    """Their units, where there is more than one service to speak of."""
    return " and ".join(one.model.unit for one in some) if len(served) > 1 else "vLLM"


def _kept(others: Sequence[One]) -> Iterator[Finding]:
    """Those that have another key, and whose clients need none."""
    for one in others:
        more = f" --unit {one.model.unit}" if one.model.name else ""
        said = f"{one.model.unit} keeps its own API key; for another one: sudo vllm-https-setup key new{more}"
        yield Finding(KEPT, Level.INFO, said, evidence={"unit": one.model.unit})


def takes_from(vllm: Vllm, path: str) -> bool:
    """Whether a key in this env file is the one that a service goes by, or will: no later place sets another."""
    found = vllm.environment
    own = found.variables.get(KEY_NAME)
    files = (*found.files, *found.missing)
    if path not in files or not vllm.unit.is_active or by_argument(vllm) or found.key_unknown:
        return False
    return own is None or (own.path in files and files.index(own.path) <= files.index(path))


def by_argument(vllm: Vllm) -> bool:
    """Whether its key is an argument of its own, and not the variable's value."""
    own = vllm.environment.variables.get(KEY_NAME)
    return vllm.environment.shown and (own is None or own.value is None or vllm.key != Secret(own.value))


def find_hindrance(vllm: Vllm, again: str = AGAIN) -> Finding | None:
    """Why this vLLM gets no key from us, or None. `again` is what to type then."""
    found, name = vllm.environment, vllm.unit.name
    restart = f"sudo systemctl daemon-reload; sudo systemctl restart {name}"
    if not vllm.unit.exists:
        remedy = "name vLLM's unit in the answers (vllm.unit): sudo vllm-https-setup key new --answers F"
        return Finding(PLACE, Level.BLOCKED, f"there is no {name}", remedy)
    if not vllm.unit.is_active:
        summary = f"{name} does not run: whether it takes a new key could not be proved"
        return Finding(PLACE, Level.BLOCKED, summary, f"sudo systemctl start {name}; {again}")
    own = found.variables.get(KEY_NAME)
    if by_argument(vllm) or found.key_unknown:
        return Finding(
            PLACE,
            Level.BLOCKED,
            f"the API key comes from {vllm.key_file} (--api-key, or made up there): it is not replaced by this program",
            f"take it out there, with the option --api-key; {restart}; {again}",
        )
    if own is not None and own.path not in found.files:
        return Finding(
            PLACE,
            Level.BLOCKED,
            f"the API key is set in {own.path}, and not in an env file of {name}: it is not replaced by this program",
            f"take {KEY_NAME} out there; {restart}; {again}",
        )
    if not (*found.files, *found.missing):
        return Finding(
            PLACE,
            Level.BLOCKED,
            f"{name} has no env file, where alone a key is safe from other users of this server",
            f"sudo systemctl edit {name}, with the lines [Service] and EnvironmentFile=/etc/vllm/vllm.env; sudo "
            f"install -D -m 0600 /dev/null /etc/vllm/vllm.env; {restart}; {again}",
        )
    return None


def env_file(vllm: Vllm) -> str:
    """The file that sets the key now, which is the last that does; else the last that the unit names."""
    own = vllm.environment.variables.get(KEY_NAME)
    return own.path if own is not None else (*vllm.environment.files, *vllm.environment.missing)[-1]


def restarted(vllm: Vllm) -> Then:
    name = vllm.unit.name
    listening = tuple((one.address, one.port) for one in vllm.listeners)
    return Then(
        ("systemctl", "restart", name),
        "vLLM takes the key up when it starts",
        Impact.RESTART_VLLM,
        makes=(ListensOn(name, listening), VllmAnswers(vllm.port, ready=False)),
        timeout_s=300,
    )


def put_back(sharing: Sequence[One], path: str, state: FileState | None) -> Iterator[Action]:
    """What was in the file (of one that was not there, nothing), for each service that was restarted by then."""
    first, *more = sharing
    yield Write(
        path,
        state.content if state else b"",
        f"{sharing[-1].vllm.unit.name if more else 'vLLM'} fails with the new key: the file is put back as it was",
        mode=state.mode if state else 0o600,
        then=(restarted(first.vllm),),
        private=True,
        keep_attributes=True,
        lasting=True,
    )
    for before, one in pairwise(sharing):
        timeout = before.model.look.answers.vllm.ready_timeout
        name = before.vllm.unit.name
        yield Wait(f"{name} answers again", "before the next is loaded", timeout, Readiness(before.model.look))
        then = restarted(one.vllm)
        yield Run(then.argv, then.why, then.impact, then.timeout_s, makes=then.makes)


class Taken:
    """The look of the wait: vLLM has loaded; the new key opens /v1, and the old one, or none, does not."""

    def __init__(self, look: Look, new: Secret, old: Secret | None) -> None:
        self._look = look
        self._new, self._old = new, old
        self._ready = Readiness(look)

    def __call__(self, server: Server) -> Probe:
        found = self._ready(server)
        if not found.done:
            return found
        asked = find_vllm(self._look).request("/v1/models", with_key=False)
        new, old = (server.vllm_ready(replace(asked, bearer=one)).status for one in (self._new, self._old))
        said = f"{new} with the new key, {old} {'with the old one' if self._old else 'without it'}"
        taken = (new, old) == (200, 401)
        return Probe(taken, said if taken else f"vLLM does not go by its env file: {said}")


def for_clients(findings: Iterable[Finding]) -> Iterator[str]:
    """Where the key is that was made; never what it is."""
    for one in findings:
        if one.key == MADE and one.level is Level.OK:
            units = one.evidence["units"]
            whose = f" of {' and '.join(units)}" if len(units) > 1 else ""
            path = one.evidence["env_file"]
            yield f"clients{whose} need the new API key. It is shown by: sudo grep {KEY_NAME} {path}"


# ── the command ──

KEY_COSTS = "vLLM restarts: until the model is loaded again there is no API; from then on the old API key opens nothing"


def replace_key(answers: str | None, unit: str, sudo_uid: int | None, sure: Sure, tell: Tell, ask: Ask) -> Document:
    """Gives vLLM a new API key: the service of this unit, or ("") the first. It needs no endpoint: where there is one,
    the final test proves it there, too."""
    runs.refuse_beside_another()
    text, proved = b"", False
    if answers is not None:
        text = commands.read_answers(answers, sudo_uid)
    elif files.read(paths.ANSWERS) is not None:
        text, proved = commands.saved_answers(), True
    session = Session(checked.load_saved(text) if text else checked.defaults(), operator=find_operator())
    unit = _served(unit, session.look.answers)
    results = session.plan(steps(proved=proved, unit=unit))
    shown = report_of_plan(session, COMMAND, results, plan_exit_code(results))
    shown = replace(shown, endpoint=None)
    if shown.exit_code:
        return document_of(shown, session.mask)
    document = document_of(replace(shown, warnings=(KEY_COSTS,)), session.mask)
    commands.require_yes(sure, ask, document)
    unfinished = journal.find_unfinished()
    continued = unfinished.id if unfinished and (unfinished.command, unfinished.unit) == (COMMAND, unit) else None
    request = {
        **commands.request_of(session, COMMAND, continued),
        "checked": checked.keep(text, session.look.answers) if text else None,
        "proved": proved,
        "unit": unit,
    }
    return commands.follow(session, commands.start_run(session, request, text, shown), tell)


def _served(unit: str, answers: Answers) -> str:
    """The unit as the answers name it; "" for the first. Raises Refused for one that they do not name."""
    first, *more = units(answers)
    full = unit if not unit or "." in unit else f"{unit}.service"
    if full and full not in (first, *more):
        known = ", ".join((first, *more))
        raise commands.Refused(
            f"{full} is no service of the answers: {known}", "name one of these, or add it to the answers: vllm.more"
        )
    return full if full in more else ""
