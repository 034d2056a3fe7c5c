"""What every view shares: findings, actions, what they make true, and the report. Imports nothing of ours."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How a finding stands. Drift has a fix; warn and blocked have a remedy; ok and info have neither."""

    OK = "ok"
    INFO = "info"
    WARN = "warn"
    DRIFT = "drift"
    BLOCKED = "blocked"


class Impact(StrEnum):
    """What an action interrupts, least first."""

    NONE = "none"
    RELOAD_CADDY = "reload caddy"
    RESTART_CADDY = "restart caddy"
    RESTART_VLLM = "restart vllm"

    @property
    def rank(self) -> int:
        return list(Impact).index(self)


class Status(StrEnum):
    """How a step ended; in a plan `changed` means that it would be."""

    OK = "ok"
    CHANGED = "changed"
    FAILED = "failed"
    SKIPPED = "skipped"
    BLOCKED = "blocked"


class SetupError(Exception):
    """Something went wrong that a person has to know of: what happened, and what to type next."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class Secret:
    """A value that prints as dots, also in a traceback's locals. `reveal` is for the wire alone."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "•••"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)


# ── what an action makes true ────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class FileIs:
    """The file has this content; `content=None` means that it is gone."""

    path: str
    content: bytes | None
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"


@dataclass(frozen=True)
class FileCopied:
    """The file has what `source` has at that moment (nothing, where that is absent)."""

    source: str
    path: str
    mode: int


@dataclass(frozen=True)
class PackageIs:
    """The package is there, or not; `version` is the least that it has then ("" where that does not matter)."""

    name: str
    installed: bool
    version: str = ""


@dataclass(frozen=True)
class UnitIs:
    """What the unit becomes; None leaves that side as it is. `exists=False` also makes it unknown to systemd."""

    name: str
    active: bool | None = None
    enabled: bool | None = None
    exists: bool = True


@dataclass(frozen=True)
class UnitRead:
    """systemd has read the unit's files again, and its ExecStart is this, as `systemctl show` has it."""

    name: str
    exec_start: str


@dataclass(frozen=True)
class DropInRead:
    """systemd has read the unit's files again: this drop-in is among them, or is no more."""

    name: str
    path: str
    present: bool = True


@dataclass(frozen=True)
class ListensOn:
    """The unit's listeners are these (address, port) pairs and no others."""

    unit: str
    listeners: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class RuleIs:
    """A rule of ufw that lets in (`action`: allow or limit), to this port from anywhere or from `source`, is there."""

    port: str
    protocol: str
    source: str | None = None
    comment: str = ""
    present: bool = True
    action: str = "allow"


@dataclass(frozen=True)
class FirewallIs:
    """ufw is switched on or off, and its incoming default; None leaves that as it is. `whole`: its files are."""

    active: bool | None = None
    incoming: str | None = None
    whole: bool = False


@dataclass(frozen=True)
class VllmAnswers:
    """vLLM serves requests (or, False, does not yet)."""

    port: int
    ready: bool = True


@dataclass(frozen=True)
class CaddyRuns:
    """Caddy runs what this file says now; it has the root of its own CA by then."""

    path: str


@dataclass(frozen=True)
class QuerySays:
    """The query is answered by this from now on."""

    argv: tuple[str, ...]
    out: str
    code: int = 0


Effect = (
    FileIs
    | FileCopied
    | PackageIs
    | UnitIs
    | UnitRead
    | DropInRead
    | ListensOn
    | RuleIs
    | FirewallIs
    | VllmAnswers
    | CaddyRuns
    | QuerySays
)


# ── actions ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Then:
    """A service that has to take up what an action changed: one command per service, after the last that asked.

    `back` is what it is told where the change is taken back; None: the same again.
    """

    argv: tuple[str, ...]
    why: str
    impact: Impact
    makes: tuple[Effect, ...] = ()
    timeout_s: float = 120
    back: Then | None = None


@dataclass(frozen=True)
class Probe:
    """One look of a `Wait`: None is not yet, True is there, False will never be. `detail` is for people, `advice` is
    what they can do about it meanwhile."""

    done: bool | None
    detail: str = ""
    advice: str = ""

    @property
    def words(self) -> str:
        return f"{self.detail}. {self.advice}" if self.advice else self.detail


@dataclass(frozen=True)
class Run:
    """A command. `undo` are the commands that take it back, `otherwise` what to do where it fails.

    `goes_on`: where that makes up for it the step goes on, as if this had not been tried.
    """

    argv: tuple[str, ...]
    why: str
    impact: Impact = Impact.NONE
    timeout_s: float = 60
    undo: tuple[Run, ...] = ()
    makes: tuple[Effect, ...] = ()
    then: tuple[Then, ...] = ()
    otherwise: tuple[Action, ...] = ()
    goes_on: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    retry: Callable[[Output], str | None] | None = field(default=None, compare=False, repr=False)
    retry_s: float = 0


@dataclass(frozen=True)
class Write:
    """A file, put in place whole. `validate` is run on a copy beside it first: {path} stands for the copy.

    `lasting`: a secret or a certificate that no undo takes away, and what was there before is kept nowhere.
    `step`: whose the file is, where another step writes it on the way.
    """

    path: str
    content: bytes = field(repr=False)
    why: str
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    impact: Impact = Impact.NONE
    validate: tuple[str, ...] = ()
    then: tuple[Then, ...] = ()
    otherwise: tuple[Action, ...] = ()
    goes_on: bool = False
    private: bool = False
    binary: bool = False
    keep_attributes: bool = False
    lasting: bool = False
    step: str = ""


@dataclass(frozen=True)
class Remove:
    path: str
    why: str
    impact: Impact = Impact.NONE
    then: tuple[Then, ...] = ()
    otherwise: tuple[Action, ...] = ()
    goes_on: bool = False
    step: str = ""


@dataclass(frozen=True)
class Wait:
    """Until something is so. `until` is asked again and again; a False ends the wait at once.

    `shell` is how an exported script looks for it: a command that ends with 0 (so), 1 (not yet) or 2 (never); its
    functions are in templates/export.sh.j2.
    """

    what: str
    why: str
    timeout_s: float
    until: Callable[[Any], Probe] = field(compare=False, repr=False)
    impact: Impact = Impact.NONE
    makes: tuple[Effect, ...] = ()
    then: tuple[Then, ...] = ()
    otherwise: tuple[Action, ...] = ()
    goes_on: bool = False
    fall_back_when_late: bool = True
    late: str = ""
    interval_s: float = 0.02
    shell: str = ""


Action = Run | Write | Remove | Wait


TIMED_OUT = 124


@dataclass(frozen=True)
class Output:
    """What a command left: exit code (TIMED_OUT where we ended it at its time limit) and its whole output."""

    code: int
    out: str = ""
    err: str = ""

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def outcome(self) -> str:
        """How it ended, and its last words, where it had any."""
        ended = f"exit code {self.code}"
        if self.code < 0:
            ended = f"ended by signal {-self.code} ({signal.strsignal(-self.code) or 'unknown'})"
        return f"{ended}: {self.last_words}" if self.last_words else ended

    @property
    def last_words(self) -> str:
        """The last lines that it said, on either stream: what to show beside a failure."""
        lines = [line.strip() for line in (self.out + "\n" + self.err).splitlines() if line.strip()]
        return " / ".join(lines[-3:])


# ── findings and the report ──────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Finding:
    """One thing that a step saw. `key` is the same everywhere: screens, JSON, docs, `preflight.accept`."""

    key: str
    level: Level
    summary: str
    remedy: str | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    fix: tuple[Action, ...] = ()

    def __post_init__(self) -> None:
        if (self.level is Level.DRIFT) != bool(self.fix):
            raise ValueError(f"{self.key}: drift has a fix, and nothing else has one")
        if (self.level in (Level.WARN, Level.BLOCKED)) != (self.remedy is not None):
            raise ValueError(f"{self.key}: warn and blocked have a remedy, and nothing else has one")


@dataclass(frozen=True)
class TestRow:
    """A row of the final test. `ok=None`: it could not be tried, and `detail` says why."""

    __test__ = False

    id: str
    ok: bool | None
    detail: str
    ms: float
    remedy: str | None = None


@dataclass(frozen=True)
class Change:
    """An action as every view shows it: already masked, with the diff that a write makes."""

    kind: str
    why: str
    impact: str
    argv: tuple[str, ...] = ()
    path: str = ""
    diff: str = ""
    wait_for: str = ""
    timeout_s: float = 0

    def as_json(self) -> dict[str, Any]:
        own: dict[str, dict[str, Any]] = {
            "run": {"argv": list(self.argv)},
            "write": {"path": self.path},
            "remove": {"path": self.path},
            "wait": {"for": self.wait_for, "timeout_s": self.timeout_s},
        }
        shown = {"kind": self.kind, **own[self.kind], "why": self.why}
        if self.kind in ("write", "remove"):
            shown["diff"] = self.diff
        return {**shown, "impact": self.impact}


@dataclass(frozen=True)
class StepReport:
    id: str
    title: str
    status: Status
    duration_s: float = 0.0
    findings: tuple[Finding, ...] = ()
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Served:
    """What clients of a further service are configured with."""

    base_url: str
    model: str | None


@dataclass(frozen=True)
class Endpoint:
    base_url: str
    model: str | None
    ca_file: str | None
    more: tuple[Served, ...] = ()

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"base_url": self.base_url, "model": self.model, "ca_file": self.ca_file}
        return {**found, "more": [vars(one) for one in self.more]} if self.more else found


@dataclass(frozen=True)
class Report:
    """What a command found and did: the one thing that text, JSON and screens are views of."""

    command: str
    exit_code: int
    steps: tuple[StepReport, ...] = ()
    tests: tuple[TestRow, ...] = ()
    endpoint: Endpoint | None = None
    run: str | None = None
    continued: str | None = None
    changed: bool = False
    errors: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    log_path: str | None = None
    duration_s: float = 0.0

    @property
    def failed(self) -> bool:
        return self.exit_code in (1, 5)
