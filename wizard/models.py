"""The services with vLLM that are served: the first, and those of `vllm.more`, each looked at as if it were alone."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from .engine import Look
from .model import Finding, TestRow, Wait

if TYPE_CHECKING:
    from .answers import Answers

T = TypeVar("T")
_OF_THE_FIRST = re.compile(r"vllm: \{(\w+: [^}]*)\}")


@dataclass(frozen=True)
class Model:
    """A service that is served. `look` has answers in which it is the only one: what looks for vLLM finds this.

    `name` is what the ids of its rows end in: its path or its host; "" for the first. `host` is a name of its own,
    or "".
    """

    look: Look
    name: str = ""
    host: str = ""

    @property
    def unit(self) -> str:
        return self.look.answers.vllm.unit

    def findings(self, found: Iterable[Finding]) -> Iterator[Finding]:
        """The findings of this service; those of a further one say which it is, and how it is answered for."""
        for finding in found:
            if not self.name:
                yield finding
                continue
            summary, remedy = finding.summary, finding.remedy
            if self.unit not in summary:
                summary = f"{self.unit}: {summary}"
            if remedy is not None:
                remedy = _OF_THE_FIRST.sub(rf"vllm: {{more: [{{unit: {self.unit}, …, \1}}]}}", remedy)
            fix = tuple(
                replace(one, what=f"{one.what} ({self.unit})") if isinstance(one, Wait) else one for one in finding.fix
            )
            evidence = {**finding.evidence, "unit": self.unit}
            yield replace(finding, summary=summary, remedy=remedy, evidence=evidence, fix=fix)

    def row(self, row: TestRow) -> TestRow:
        return replace(row, id=f"{row.id}.{self.name}") if self.name else row


def models(look: Look) -> tuple[Model, ...]:
    """All that are served, the first one first."""
    return (Model(look), *further(look))


def further(look: Look) -> tuple[Model, ...]:
    """Those of `vllm.more`."""
    more = look.answers.vllm.more
    if more:
        # One question for all of them: later each is known.
        look.server.units(*(one.unit for one in more))
    return tuple(
        Model(
            replace(look, answers=_alone(look.answers, one), prefix=f"/{one.path}" if one.path else ""),
            one.path or one.host or "",
            one.host or "",
        )
        for one in more
    )


def units(answers: Answers) -> tuple[str, ...]:
    """Their units, the first one's first."""
    return (answers.vllm.unit, *(one.unit for one in answers.vllm.more))


def as_only(look: Look, unit: str) -> Look:
    """A look in whose answers a service that they do not name (any more) is the only one."""
    service = _altered(look.answers.vllm, unit=unit, more=(), launch_script="auto", env_file="auto", port="auto")
    return replace(look, answers=_altered(look.answers, vllm=service))


def _alone(answers: Answers, one: Any) -> Answers:
    """The answers as if this service were the only one. Which model is asked for is an answer for the first."""
    changes = {"vllm": _altered(one, more=()), "test": _altered(answers.test, model="auto")}
    if one.host:
        changes["tls"] = _altered(answers.tls, hosts=(one.host,), domain=one.host)
    return _altered(answers, **changes)


def _altered(section: T, **changes: Any) -> T:
    """A copy with other answers, be it checked just now or before (checked.py): both are frozen."""
    altered = copy.copy(section)
    vars(altered).update(changes)
    return altered
