"""Words and variables of a shell script, each byte with its place in the file.

The grammar is tree-sitter's for bash; here is only what a word means once quotes and backslashes are gone,
and which variables have one value that can be proven.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING

from wizard.parse.words import Word, fill_in, given, join, literal

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

_MAX_DEPTH = 8
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
# What stands in one of these runs in the order of the text, once it is reached.
_BLOCKS = frozenset({"program", "compound_statement", "do_group"})
_WRITERS = frozenset(b"read unset printf getopts mapfile readarray let declare typeset local export readonly".split())
# What these read in may set any variable, but virtual environments and conda set PATH and their own alone.
_READ_IN = frozenset({b"source", b".", b"eval"})
_HARMLESS = re.compile(rb"/activate\b|\bconda\b")
_DEFAULT = re.compile(rb"\$\{[A-Za-z_]\w*(:?)[-=]")
_PLAIN_DECLARATION = frozenset({"variable_assignment", "variable_name", "word", "string", "raw_string", "comment"})
_SETS_DEFAULT = re.compile(rb"\$\{([A-Za-z_]\w*):?=")


@dataclass(frozen=True)
class Assignment:
    """One assignment. `words` are the elements of an array, or the one value."""

    name: str
    start: int
    end: int
    block: int | None  # the id of the block in which it runs unconditionally
    words: tuple[Word, ...]
    array: bool
    append: bool
    element: bool
    source: bytes


@cache
def _parser() -> "Parser":
    """One for all texts: it is made once, and kept."""
    import tree_sitter
    import tree_sitter_bash

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_bash.language()))


class Script:
    """A parsed script. Nothing in it raises on odd input; `broken` says that the grammar did not fit.

    `environment` is what the service gets (None: not known); `asked` are the variables that were looked up there.
    """

    def __init__(self, source: bytes, environment: Mapping[str, str] | None = None) -> None:
        self.source = source
        self.environment = environment
        self.asked: set[str] = set()
        # The grammar's own scanner asks C's isdigit of any character behind a brace, which crashes the interpreter. A
        # character that is no ASCII is a letter of a word, and none of a name: so is this one.
        self._tree = _parser().parse(_NOT_ASCII.sub(b"^", source))
        self.broken = self._tree.root_node.has_error

    def nodes(self) -> "Iterator[Node]":
        """Every named node in the order of the text."""
        pending = [self._tree.root_node]
        while pending:
            node = pending.pop()
            yield node
            pending.extend(reversed(node.named_children))

    @cached_property
    def commands(self) -> "tuple[Node, ...]":
        """All simple commands."""
        return tuple(node for node in self.nodes() if node.type == "command")

    @cached_property
    def assignments(self) -> dict[str, tuple[Assignment, ...]]:
        """Assignments by the name of the variable, in the order of the text."""
        found: dict[str, list[Assignment]] = {}
        for node in self.nodes():
            if node.type == "variable_assignment":
                assignment = self._assignment(node)
                found.setdefault(assignment.name, []).append(assignment)
        return {name: tuple(items) for name, items in found.items()}

    def words(self, command: "Node") -> tuple[Word, ...]:
        """The command's words as written: its name, its arguments, and those that follow a redirection."""
        nodes: list[Node] = []
        for child in command.children:
            if child.type == "command_name":
                nodes.extend(child.children or [child])
            elif child.type not in ("variable_assignment", "comment") and not child.type.endswith("_redirect"):
                nodes.append(child)
        redirects = [child for child in command.children if child.type == "file_redirect"]
        if command.parent is not None and command.parent.type == "redirected_statement":
            redirects += [child for child in command.parent.children if child.type == "file_redirect"]
        for redirect in redirects:
            # The grammar counts words after the file's name as more files; the shell, as arguments.
            nodes.extend(redirect.children_by_field_name("destination")[1:])
        return tuple(self.word(node) for node in sorted(nodes, key=lambda node: node.start_byte))

    def expand(self, word: Word, use: "Node", depth: int = 0) -> tuple[Word, ...]:
        """The words that this one becomes when the command runs; itself where that is not known."""
        if word.text is not None or word.variable is None or depth > _MAX_DEPTH:
            return (word,)
        assignments = self.settled(word.variable, use, word.start)
        if not assignments:
            value = self._from_outside(word, use, depth)
            return (word,) if value is None else fill_in(word, value)
        if assignments[0].array:
            whole = b"[@]" in word.source or (b"[*]" in word.source and not word.quoted)
            if not whole or word.before or word.after:
                return (word,)
            known_words = tuple(
                replace(known, origin=word.variable, conditional=known.conditional or element.conditional)
                for assignment in assignments
                for element in self._elements(assignment, use)
                for known in self.expand(element, use, depth + 1)
            )
            splits = not word.quoted and any(len((known.text or b"-").split()) != 1 for known in known_words)
            return (word,) if splits else known_words
        # One value: an unknown part of it leaves the whole unknown.
        inner = self.expand(assignments[0].words[0], use, depth + 1) if assignments[0].words else ()
        if len(inner) > 1 or (inner and inner[0].text is None):
            return (word,)
        value = inner[0] if inner else Word(word.start, word.end, b"", b"", (), assignments[0].start)
        if word.default_for_empty and not value.text:
            return (word,)
        return fill_in(word, value)

    def settled(self, name: str, use: "Node", at: int) -> tuple[Assignment, ...]:
        """The assignments that give the variable its value for a word at `at` of this command, or of an assignment that
        the command depends on; () where that can't be proven."""
        assignments = self._assigned(name, at)
        if not assignments or name in self._rewritten:
            return ()
        blocks = set(_ancestors(use))
        first, *more = assignments
        if first.append or first.element or first.block not in blocks:
            return ()
        if any(not (item.append and item.array and first.array) or item.element for item in more):
            return ()
        if any(first.start < place < at and place != use.start_byte for place, _ in self.reads_in):
            return ()
        return assignments if all(item.start < at for item in assignments) else ()

    def _assigned(self, name: str, at: int) -> tuple[Assignment, ...]:
        """All assignments but the one that the word at `at` stands in: HOST="${HOST:-0.0.0.0}"."""
        return tuple(one for one in self.assignments.get(name, ()) if not one.start <= at < one.end)

    def _from_outside(self, word: Word, use: "Node", depth: int) -> Word | None:
        """What the environment, or the default where it says nothing, gives for a variable that the script does not
        set before."""
        name = word.variable or ""
        if self.environment is None or name in self._rewritten or self._assigned(name, word.start):
            return None
        if any(place < word.start for place, _ in self.reads_in):
            return None
        self.asked.add(name)
        value = self.environment.get(name)
        if value is not None and (value or not word.default_for_empty):
            return given(word, value)
        if word.default is None:
            # Without a default it is empty, or the script ends there (set -u): nothing to build on.
            return None
        (default, *more) = self.expand(word.default, use, depth + 1) or (None,)
        return None if default is None or more or default.text is None else replace(default, outside=True)

    @cached_property
    def reads_in(self) -> tuple[tuple[int, str], ...]:
        """Where the script takes in variables of any name, and what does it."""
        found = []
        for node in self.nodes():
            text = self._text(node)
            if node.type == "command":
                words = self.words(node)
                opaque = bool(words) and words[0].text in _READ_IN and not _HARMLESS.search(text)
            else:
                kinds = {child.type for child in node.named_children}
                opaque = node.type == "declaration_command" and not kinds <= _PLAIN_DECLARATION
            if opaque:
                found.append((node.start_byte, text.split(b"\n")[0].decode("utf-8", "replace")))
        return tuple(found)

    def word(self, node: "Node") -> Word:
        """One word, its quotes and backslashes resolved."""
        parts = node.children if node.type == "concatenation" else [node]
        words = [self._part(part) for part in parts]
        if len(words) == 1:
            return words[0]
        return join(words, node.start_byte, node.end_byte, self._text(node))

    def _elements(self, assignment: Assignment, use: "Node") -> tuple[Word, ...]:
        if assignment.block in set(_ancestors(use)):
            return assignment.words
        return tuple(replace(word, conditional=True) for word in assignment.words)

    @cached_property
    def _rewritten(self) -> frozenset[str]:
        """Names that something other than an assignment may set."""
        names: set[str] = set()
        for node in self.nodes():
            if node.type in ("for_statement", "select_statement", "unset_command"):
                names.update(
                    self._name(child) for child in node.named_children if child.type in ("variable_name", "word")
                )
            elif node.type == "command":
                words = self.words(node)
                if words and words[0].text in _WRITERS:
                    names.update(_target(word) for word in words[1:])
            elif node.type == "declaration_command":
                names.update(
                    _target(self.word(child))
                    for child in node.named_children
                    if child.type in ("word", "string", "raw_string", "concatenation")
                )
            elif node.type == "expansion" and (found := _SETS_DEFAULT.match(self._text(node))):
                names.add(found[1].decode("latin-1"))
        return frozenset(names)

    def _assignment(self, node: "Node") -> Assignment:
        target = node.child_by_field_name("name")
        value = node.child_by_field_name("value")
        element = target is not None and target.type == "subscript"
        if target is not None and element:
            target = target.child_by_field_name("name")
        if value is None:
            words: tuple[Word, ...] = ()
        elif value.type == "array":
            words = tuple(self.word(child) for child in value.named_children if child.type != "comment")
        else:
            words = (self.word(value),)
        return Assignment(
            name="" if target is None else self._name(target),
            start=node.start_byte,
            end=node.end_byte,
            block=self._block(node),
            words=words,
            array=value is not None and value.type == "array",
            append=any(child.type == "+=" for child in node.children),
            element=element,
            source=self._text(node),
        )

    def _block(self, node: "Node") -> int | None:
        parent = node.parent
        while parent is not None and parent.type in ("declaration_command", "variable_assignments"):
            parent = parent.parent
        if parent is not None and parent.type == "command":
            # `A=1 B=2` on a line of its own, which the grammar joins to the next command.
            name = parent.child_by_field_name("name")
            between = self.source[node.end_byte : name.start_byte] if name is not None else b""
            if b"\n" not in between.replace(b"\\\n", b""):
                return None
            parent = parent.parent
        return parent.id if parent is not None and parent.type in _BLOCKS else None

    def _part(self, node: "Node") -> Word:
        text = self._text(node)
        start, end = node.start_byte, node.end_byte
        if node.type in ("word", "number"):
            return literal(text, start, start, end, text, special=None)
        if node.type == "raw_string":
            offsets = tuple(range(start + 1, end - 1))
            return Word(start, end, text, text[1:-1], offsets, start + 1)
        if node.type == "string":
            if all(child.type in ("string_content", '"') for child in node.children):
                return literal(text[1:-1], start + 1, start, end, text, special=b'$`"\\')
            return self._string(node, text)
        if node.type in ("simple_expansion", "expansion"):
            default, for_empty = self._default(node)
            return Word(
                *(start, end, text, None),
                variable=self._variable(node),
                quoted=False,
                default=default,
                default_for_empty=for_empty,
            )
        return Word(start, end, text, None, quoted=node.type in ("ansi_c_string", "translated_string"))

    def _string(self, node: "Node", text: bytes) -> Word:
        """A double-quoted string with something to expand in it."""
        inner = [child for child in node.named_children if child.type != "string_content"]
        start, end = node.start_byte, node.end_byte
        if len(inner) != 1 or inner[0].type not in ("simple_expansion", "expansion"):
            return Word(start, end, text, None)
        middle = inner[0]
        ends = ((start + 1, middle.start_byte), (middle.end_byte, end - 1))
        before, after = (
            literal(piece, first, first, last, piece, special=b'$`"\\') if piece else None
            for first, last in ends
            for piece in (self.source[first:last],)
        )
        default, for_empty = self._default(middle)
        return Word(
            *(start, end, text, None),
            variable=self._variable(middle),
            before=before,
            after=after,
            default=default,
            default_for_empty=for_empty,
        )

    def _default(self, node: "Node") -> tuple[Word | None, bool]:
        """The word that ${NAME:-word} gives where NAME is missing, and whether also where it is empty."""
        found = _DEFAULT.match(self._text(node))
        if node.type != "expansion" or found is None or len(node.named_children) > 2:
            return None, False
        if len(node.named_children) == 2:
            return self.word(node.named_children[1]), bool(found[1])
        end = node.end_byte - 1
        return Word(end, end, b"", b"", (), end), bool(found[1])

    def _variable(self, node: "Node") -> str | None:
        """The name, if the expansion is plain: $NAME, ${NAME}, ${NAME[@]}, ${NAME[*]}, or has a default."""
        text = self._text(node)
        if found := _DEFAULT.match(text):
            return text[2 : found.end() - 1 - len(found[1])].decode("ascii")
        name = text[2:-1] if text.startswith(b"${") else text[1:]
        name = name.removesuffix(b"[@]").removesuffix(b"[*]")
        plain = name.decode("latin-1")
        return plain if plain.isascii() and plain.isidentifier() else None

    def _name(self, node: "Node") -> str:
        return self._text(node).decode("latin-1")

    def _text(self, node: "Node") -> bytes:
        return self.source[node.start_byte : node.end_byte]


def _target(word: Word) -> str:
    """The variable that `export "NAME=value"` or `read NAME` sets."""
    text = word.text if word.text is not None else (word.before.text if word.before else None)
    return (text or b"").partition(b"=")[0].decode("latin-1")


def _ancestors(node: "Node") -> Iterator[int]:
    parent = node.parent
    while parent is not None:
        yield parent.id
        parent = parent.parent
