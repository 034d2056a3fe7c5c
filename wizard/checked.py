"""Answers that were checked before: as the steps read them, without the library that checks them.

That library and the reader of YAML take longer to load than a look at the server takes. So what they made of a text is
kept with a digest of the text and of the checks: where either has changed since, the text is checked again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from . import files, paths

if TYPE_CHECKING:
    from .answers import Answers


class Section:
    """A section's answers by their names, and which of them were given: what a step reads of one in `Answers`."""

    def __init__(self, answers: Mapping[str, Any], given: Iterable[str]) -> None:
        self.__dict__.update(answers)
        self.model_fields_set = frozenset(given)


def load(text: bytes, kept: str | None = None) -> Answers:
    """The answers that the text gives, from `kept` (see `keep`) where that is of this text. Raises AnswersError."""
    try:
        found = json.loads(kept) if kept else {}
        if found.get("digest") == digest(text):
            return cast("Answers", _section(found["answers"]))
    except (ValueError, TypeError, AttributeError, KeyError):
        pass  # what is kept is nobody's to edit
    from .answers import load

    return load(text)


def load_saved(text: bytes) -> Answers:
    """The same, where these may be the answers that are saved on this server. Raises AnswersError."""
    state = files.read(paths.CHECKED)
    return load(text, state.text if state and state.kind == "file" else None)


def defaults() -> Answers:
    """What a server that was never set up is looked at with."""
    from .answers import Answers

    return Answers.defaults()


def keep(text: bytes, answers: Answers) -> str:
    """The answers of this text, to be given to `load`."""
    return json.dumps({"digest": digest(text), "answers": _plain(answers)})


def digest(text: bytes) -> str:
    """Of the text, and of the modules that check it."""
    checks = sorted(Path(__file__).parent.glob("answers*.py"))
    return hashlib.sha256(b"".join(one.read_bytes() for one in checks) + b"\0" + text).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if not hasattr(value, "model_fields_set"):
        return value
    answers = {name: _plain(one) for name, one in vars(value).items() if name != "model_fields_set"}
    return {"answers": answers, "given": sorted(value.model_fields_set)}


def _section(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_section, value))
    if not isinstance(value, dict):
        return value
    return Section({name: _section(one) for name, one in value["answers"].items()}, value["given"])
