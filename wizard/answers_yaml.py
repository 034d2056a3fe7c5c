"""YAML 1.2 text to plain data with line numbers, and back. Knows no key; imports ruamel.yaml on first use."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wizard.answers_file import LARGEST, AnswerProblem

if TYPE_CHECKING:
    from ruamel.yaml.events import Event

Path = tuple[str | int, ...]
DEEPEST = 8  # levels; the answers themselves have four
MOST = 5000  # entries; enough for a few thousand rules

_BOMS = {
    b"\xef\xbb\xbf": "a byte order mark",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
_TAG = "tag:yaml.org,2002:"


@dataclass
class Tree:
    """Mappings as dict, sequences as tuple; where each entry stands; what is wrong with the text itself."""

    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[AnswerProblem] = field(default_factory=list)

    def line(self, path: Path) -> int | None:
        """The line of the entry, or of the nearest one around it that is there."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path)

    def report(self, path: Path, message: str, expected: str | None = None, line: int | None = None) -> None:
        self.problems.append(AnswerProblem(line or self.line(path), key_name(path), message, expected))


class Unreadable(Exception):
    """The text cannot be read any further; the reason is among the tree's problems."""


def key_name(path: Path) -> str:
    """`firewall.allow[0].port` for ("firewall", "allow", 0, "port")."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def parse(text: bytes) -> Tree:
    """The data of one document, the lines of its entries, and every problem of the text. Never raises."""
    tree = Tree()
    try:
        characters = _decoded(text, tree)
        _Composer(tree, characters).compose()
    except Unreadable:
        pass
    return tree


def write(data: Mapping[str, Any]) -> str:
    """The data as YAML text: mappings as blocks, lists of plain values on one line."""
    from ruamel.yaml.representer import SafeRepresenter

    class Blocks(SafeRepresenter):
        def represent_mapping(self, tag: Any, mapping: Any, flow_style: Any = None) -> Any:
            return super().represent_mapping(tag, mapping, flow_style=False)

    return _written(data, Blocks, None)


def write_inline(data: Mapping[str, Any]) -> str:
    """`key: value` with whatever the value is on one line."""
    from ruamel.yaml.representer import SafeRepresenter

    return _written(data, SafeRepresenter, True).strip().removeprefix("{").removesuffix("}")


def _written(data: Mapping[str, Any], representer: type, flow: bool | None) -> str:
    stream = io.StringIO()
    yaml = _yaml()
    yaml.Representer = representer
    yaml.default_flow_style = flow
    yaml.dump(data, stream)
    return stream.getvalue()


def _yaml() -> Any:
    from ruamel.yaml import YAML

    yaml: Any = YAML(typ="safe", pure=True)
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 100_000
    yaml.allow_unicode = True
    return yaml


def _decoded(text: bytes, tree: Tree) -> str:
    """The text as characters; what no editor writes into an answers file is refused here, with its line."""
    if len(text) > LARGEST:
        tree.report((), f"this file has more than {LARGEST // 1024} KiB", "an answers file")
        raise Unreadable
    for mark, name in _BOMS.items():
        if text.startswith(mark):
            tree.report((), f"the file begins with {name}", "UTF-8 text without a byte order mark", 1)
            raise Unreadable
    try:
        characters = text.decode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        tree.report((), "this is not UTF-8 text", "a text file in UTF-8", line)
        raise Unreadable from None
    for number, line_text in enumerate(characters.split("\n"), 1):
        odd = next((c for c in line_text.rstrip("\r") if (ord(c) < 32 and c not in "\t\r") or c == "\x7f"), None)
        if odd is not None:
            name = "a NUL character" if odd == "\0" else f"the control character 0x{ord(odd):02x}"
            tree.report((), f"there is {name} in this line", "text alone", number)
            raise Unreadable
    return characters


class _Composer:
    """Builds the tree from the parser's events: nesting is bounded and every duplicate has its line."""

    def __init__(self, tree: Tree, text: str) -> None:
        self.tree = tree
        self.text = text
        self.yaml = _yaml()
        self.events: Iterator[Event] = self.yaml.parse(text)
        self.count = 0

    def compose(self) -> None:
        from ruamel.yaml.error import YAMLError

        try:
            self._document()
        except YAMLError as error:
            self._syntax(error)
        except (ValueError, RecursionError):  # from within the parser: nothing that has a line
            self.tree.report((), "this is not YAML", "an answers file")

    def _next(self) -> Event:
        self.count += 1
        if self.count > MOST:
            self.tree.report((), f"this file has more than {MOST} entries", "an answers file")
            raise Unreadable
        return next(self.events)

    def _document(self) -> None:
        from ruamel.yaml.events import DocumentEndEvent, DocumentStartEvent, ScalarEvent, StreamEndEvent

        self._next()
        start = self._next()
        if not isinstance(start, DocumentStartEvent):
            self.tree.report((), "this file is empty", 'at least "version: 1" and "tls:" with its mode')
            raise Unreadable
        if start.version not in (None, (1, 2)):
            self.tree.report((), "this file asks for another YAML than 1.2", "no %YAML line", _line(start))
        event = self._next()
        if isinstance(event, ScalarEvent) and not (event.value or event.anchor) and event.implicit[0]:
            self.tree.report((), "this file is empty", 'at least "version: 1" and "tls:" with its mode')
            raise Unreadable
        self.tree.lines[()] = _line(event)
        self.tree.data = self._node(event, ())
        if not isinstance(self._next(), DocumentEndEvent):
            raise Unreadable
        extra = self._next()
        if not isinstance(extra, StreamEndEvent):
            self.tree.report((), "a second document begins here", "one document alone", _line(extra))

    def _node(self, event: Event, path: Path) -> Any:
        from ruamel.yaml.events import AliasEvent, MappingStartEvent, ScalarEvent

        if len(path) > DEEPEST:
            self.tree.report(
                path[: 0 if "?" in path[:2] else 2],
                "this is nested too deep",
                f"{DEEPEST} levels at most",
                _line(event),
            )
            raise Unreadable
        if isinstance(event, AliasEvent):
            self.tree.report(path, "an alias (*) is not allowed here", "the value itself", _line(event))
            return None
        if getattr(event, "anchor", None):
            self.tree.report(path, "an anchor (&) is not allowed here", "the value alone", _line(event))
        if str(getattr(event, "tag", None) or "!") != "!":
            self.tree.report(path, "a tag (!) is not allowed here", "the value alone", _line(event))
        if isinstance(event, ScalarEvent):
            return self._scalar(event)
        return self._mapping(path) if isinstance(event, MappingStartEvent) else self._sequence(path)

    def _scalar(self, event: Any) -> Any:
        """Text, number, true, false or null by the core schema; a date is text."""
        from ruamel.yaml.nodes import ScalarNode

        if not event.implicit[0]:
            return event.value
        tag = str(self.yaml.resolver.resolve(ScalarNode, event.value, event.implicit))
        if tag.removeprefix(_TAG) not in ("null", "bool", "int", "float"):
            return event.value
        try:
            node = ScalarNode(tag, event.value, event.start_mark, event.end_mark)
            return self.yaml.constructor.construct_object(node)
        except ValueError:  # more digits than Python turns into a number
            return event.value

    def _sequence(self, path: Path) -> tuple[Any, ...]:
        from ruamel.yaml.events import SequenceEndEvent

        items: list[Any] = []
        while not isinstance(event := self._next(), SequenceEndEvent):
            here = (*path, len(items))
            self.tree.lines[here] = _line(event)
            items.append(self._node(event, here))
        return tuple(items)

    def _mapping(self, path: Path) -> dict[str, Any]:
        from ruamel.yaml.events import MappingEndEvent

        data: dict[str, Any] = {}
        while not isinstance(event := self._next(), MappingEndEvent):
            key = self._key(event, path)
            here = path if key is None else (*path, key)
            first = self.tree.lines.get(here) if key in data else None
            if key is not None and first is None:
                self.tree.lines[here] = _line(event)
            value = self._node(self._next(), here)
            if first is not None:
                where = f"this key is given twice, first in line {first}"
                self.tree.report(here, where, "one of the two", _line(event))
            elif key is not None:
                data[key] = value
        return data

    def _key(self, event: Any, path: Path) -> str | None:
        """The key's text, None where it is no key that an answers file can have (reported)."""
        from ruamel.yaml.events import ScalarEvent

        plain = isinstance(event, ScalarEvent) and event.implicit[0]
        if plain and event.value == "<<":
            self.tree.report(path, "a merge key (<<) is not allowed here", "the keys themselves", _line(event))
            return None
        key = self._node(event, (*path, "?"))  # a key that is a list or a mapping nests, too
        if isinstance(key, str):
            return key
        self.tree.report(path, "this key is not a word", "one of the documented keys", _line(event))
        return None

    def _syntax(self, error: Exception) -> None:
        """The parser's own finding. Its excerpt of the file is left out: a secret may stand there."""
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = mark.line + 1 if mark is not None else None
        problem = str(getattr(error, "problem", None) or "this is not YAML")
        rows = self.text.split("\n")
        row = rows[line - 1] if line is not None and line <= len(rows) else ""
        if "\\t" in problem or "\t" in row[: len(row) - len(row.lstrip())]:
            self.tree.report((), "there is a tab where spaces are needed", "two spaces a level", line)
        else:
            start = getattr(error, "context_mark", None)
            begun = f"; it belongs to what begins in line {start.line + 1}" if start and start.line + 1 != line else ""
            self.tree.report((), f"this is not YAML: {problem}{begun}", None, line)


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
