"""The answers that a person has given so far. They may lack what their mode needs; `answers` says what."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import files, paths
from .model import SetupError

if TYPE_CHECKING:
    from .answers import AnswerProblem, Answers

# What a look does without: DNS can be asked as soon as the domain is there.
STAND_INS = {"email": "nobody@example.com"}
LEAST: Mapping[str, Any] = {"version": 1, "tls": {"mode": "internal"}}


@dataclass(frozen=True)
class Draft:
    """What the answers file has so far, as plain data. A draft is never changed: `put` returns another."""

    data: Mapping[str, Any] = field(default_factory=lambda: LEAST)

    @classmethod
    def read(cls, text: bytes) -> Draft:
        """What can be read of an answers file, be it right or not."""
        from .answers_yaml import parse

        data = plain(parse(text).data)
        return cls({**LEAST, **data}) if isinstance(data, dict) else cls()

    def dump(self) -> bytes:
        from .answers_yaml import write

        return write(self.data).encode()

    def given(self, key: str) -> Any:
        """What was answered, None where nothing was."""
        section, _, name = key.partition(".")
        found = self.data.get(section)
        return found.get(name) if isinstance(found, Mapping) else None

    def value(self, key: str) -> Any:
        """What was answered, or the default."""
        found = self.given(key)
        return default_of(key) if found is None else found

    def put(self, key: str, value: Any) -> Draft:
        """The draft with this answer; None, and what is the default anyway, takes it out."""
        section, _, name = key.partition(".")
        known = self.data.get(section)
        inner = dict(known) if isinstance(known, Mapping) else {}
        inner.pop(name, None)
        if value is not None and value != default_of(key):
            inner[name] = value
        data = {one: two for one, two in self.data.items() if one != section}
        return Draft({**data, section: inner} if inner else data)

    def problems(self) -> tuple[AnswerProblem, ...]:
        """What is wrong with the answers or missing from them; none where they can be applied."""
        return self._problems

    # A look asks for them half a dozen times, and each answer is a whole file written and read.
    @functools.cached_property
    def _problems(self) -> tuple[AnswerProblem, ...]:
        from .answers import AnswersError, load

        try:
            load(self.dump())
        except AnswersError as error:
            return error.errors
        return ()

    def problem(self, key: str) -> AnswerProblem | None:
        """What is wrong with this answer."""
        return next((one for one in self.problems() if one.concerns(key)), None)

    def answers(self) -> Answers:
        """Raises AnswersError where there are problems."""
        from .answers import load

        return load(self.dump())

    def without_problems(self) -> Draft:
        """Without the answers that are wrong, and without sections and keys that are none."""
        draft = self
        for problem in self.problems():
            section, _, name = problem.key.partition(".")
            if name:
                draft = draft.put(f"{section}.{name.partition('[')[0].partition('.')[0]}", None)
            else:
                draft = Draft({**{key: item for key, item in draft.data.items() if key != section}, "version": 1})
        return draft if draft.given("tls.mode") is not None else Draft({**draft.data, "tls": LEAST["tls"]})

    def looked_with(self) -> Answers:
        """The answers, or those of them that are right: what the server can be looked at with while one is typed."""
        from .answers import Answers, AnswersError

        draft = self.without_problems()
        if draft.given("tls.mode") == "acme":
            draft = Draft({**draft.data, "tls": {**STAND_INS, **draft.data["tls"]}})
        if draft.problems():
            draft = Draft({**draft.data, "tls": LEAST["tls"]})
        try:
            return draft.answers()
        except AnswersError:
            return Answers.defaults()

    def asked_with(self) -> Answers:
        """The answers that the questions depend on: the mode is the one answered, also while it lacks its domain."""
        answers = self.looked_with()
        if self.problem("tls.mode") is not None:
            return answers
        kept = {key: self.given(f"tls.{key}") for key in ("mode", "acme_directory")}
        update = {key: value for key, value in kept.items() if isinstance(value, str)}
        return answers.model_copy(update={"tls": answers.tls.model_copy(update=update)})


def plain(value: Any) -> Any:
    """The same with lists in place of tuples: what a person can add to."""
    match value:
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case tuple() | list():
            return [plain(item) for item in value]
        case _:
            return value


def default_of(key: str) -> Any:
    """The answer that the file need not give; None for what has none (tls.mode among them: it is always given)."""
    from .answers import Answers

    section, _, name = key.partition(".")
    if key == "tls.mode":
        return None
    found = Answers.defaults().model_dump(by_alias=True).get(section)
    return plain(found.get(name)) if isinstance(found, dict) else None


def load_draft() -> Draft | None:
    """The draft that an earlier wizard left; None where there is none."""
    state = files.read(paths.DRAFT)
    return Draft.read(state.content) if state is not None and state.kind == "file" else None


def save_draft(draft: Draft) -> None:
    files.make_directories(paths.STATE, 0o755)
    files.write(paths.DRAFT, draft.dump(), mode=0o600)


def forget_draft() -> None:
    """Where its answers have gone into a run, the run has them. One that can't be removed is in nobody's way."""
    with contextlib.suppress(SetupError):
        if files.read(paths.DRAFT) is not None:
            files.remove(paths.DRAFT)
