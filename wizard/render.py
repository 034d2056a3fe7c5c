"""Templates to text. Undefined names are errors: a template never leaves a gap.

jinja2 takes a tenth of a rerun's time to load and to read the templates. So a server's texts are kept, each by a digest
of its template and of what was put into it, and jinja2 is loaded only where one of them is another.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"
_known: dict[str, str] = {}
_used: dict[str, str] = {}


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(template: str, **values: Any) -> str:
    """The template's text with these values. Raises jinja2.UndefinedError for a name that has none."""
    source = (TEMPLATES / template).read_bytes()
    digest = hashlib.sha256(source + b"\0" + repr(sorted(values.items())).encode()).hexdigest()
    if digest not in _used:
        _used[digest] = _known.get(digest) or _environment().get_template(template).render(**values)
    return _used[digest]


def remember(kept: str | None) -> None:
    """Takes up the texts that `keep` has given in a process before this."""
    try:
        found = json.loads(kept) if kept else {}
        _known.update({digest: text for digest, text in found.items() if isinstance(text, str)})
    except (ValueError, AttributeError):
        pass  # what is kept is nobody's to edit


def keep() -> str:
    """All texts that this process has needed, to be given to `remember`; the same again where they are known ones."""
    return json.dumps(_known if _used.keys() <= _known.keys() else _used, sort_keys=True)
