"""Words and variables of a shell script, each byte with its place in the file.

The grammar is tree-sitter's for bash; here is only what a word means once quotes and backslashes are gone,
and which variables have one value that can be proven.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node

_MAX_DEPTH = 8
# What stands in one of these runs in the order of the text, once it is reached.
_BLOCKS = frozenset({"program", "compound_statement", "do_group"})
_WRITERS = frozenset(b"read unset printf getopts mapfile readarray let declare typeset local export readonly".split())
_SETS_DEFAULT = re.compile(rb"\$\{([A-Za-z_]\w*):?=")


@dataclass(frozen=True)
class Word:
    """A word of a command. `text` is None where it depends on something that the script does not say."""

    start: int
    end: int
    source: bytes
    text: bytes | None
    offsets: tuple[int, ...] = ()  # the place of each byte of `text`
    begin: int = 0  # where an empty text would be filled in
    variable: str | None = None  # the only thing unknown: $NAME, ${NAME} or ${NAME[@]}
    before: "Word | None" = None  # literal text around that variable
    after: "Word | None" = None
    quoted: bool = True
    origin: str | None = None  # the variable that the text was taken from
    conditional: bool = False  # an element that the script adds to an array only sometimes

    @property
    def spreads(self) -> bool:
        """True if the word may become several words, or none."""
        return self.text is None and (not self.quoted or b"@" in self.source)

    def span(self, first: int = 0) -> tuple[int, int] | None:
        """Where the text from byte `first` stands in the file, or None if quotes cut through it."""
        offsets = self.offsets[first:]
        if not offsets:
            place = self.offsets[-1] + 1 if self.offsets else self.begin
            return place, place
        if offsets[-1] - offsets[0] != len(offsets) - 1:
            return None
        return offsets[0], offsets[-1] + 1


@dataclass(frozen=True)
class Assignment:
    """One assignment. `words` are the elements of an array, or the one value."""

    name: str
    start: int
    block: int | None  # the id of the block in which it runs unconditionally
    words: tuple[Word, ...]
    array: bool
    append: bool
    element: bool
    source: bytes


class Script:
    """A parsed script. Nothing in it raises on odd input; `broken` says that the grammar did not fit."""

    def __init__(self, source: bytes) -> None:
        import tree_sitter
        import tree_sitter_bash

        self.source = source
        language = tree_sitter.Language(tree_sitter_bash.language())
        self._tree = tree_sitter.Parser(language).parse(source)
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
        assignments = self.settled(word.variable, use)
        if not assignments:
            return (word,)
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
        return _fill_in(word, value)

    def settled(self, name: str, use: "Node") -> tuple[Assignment, ...]:
        """The assignments that give the variable its value at this command, () where that can't be proven."""
        assignments = self.assignments.get(name, ())
        if not assignments or name in self._rewritten:
            return ()
        blocks = set(_ancestors(use))
        first, *more = assignments
        if first.append or first.element or first.block not in blocks or first.start > use.start_byte:
            return ()
        if any(not (item.append and item.array and first.array) or item.element for item in more):
            return ()
        return assignments if all(item.start < use.start_byte for item in more) else ()

    def word(self, node: "Node") -> Word:
        """One word, its quotes and backslashes resolved."""
        parts = node.children if node.type == "concatenation" else [node]
        words = [self._part(part) for part in parts]
        if len(words) == 1:
            return words[0]
        return _join(words, node.start_byte, node.end_byte, self._text(node))

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
            return _literal(text, start, start, end, text, special=None)
        if node.type == "raw_string":
            offsets = tuple(range(start + 1, end - 1))
            return Word(start, end, text, text[1:-1], offsets, start + 1)
        if node.type == "string":
            if all(child.type in ("string_content", '"') for child in node.children):
                return _literal(text[1:-1], start + 1, start, end, text, special=b'$`"\\')
            return self._string(node, text)
        if node.type in ("simple_expansion", "expansion"):
            return Word(start, end, text, None, variable=self._variable(node), quoted=False)
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
            _literal(piece, first, first, last, piece, special=b'$`"\\') if piece else None
            for first, last in ends
            for piece in (self.source[first:last],)
        )
        return Word(start, end, text, None, variable=self._variable(middle), before=before, after=after)

    def _variable(self, node: "Node") -> str | None:
        """The name, if the expansion is plain: $NAME, ${NAME}, ${NAME[@]} or ${NAME[*]}."""
        text = self._text(node)
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


def _literal(raw: bytes, place: int, start: int, end: int, source: bytes, special: bytes | None) -> Word:
    """A word without expansions; `special` are the bytes that a backslash escapes (None: all)."""
    text, offsets, index = bytearray(), [], 0
    while index < len(raw):
        following = raw[index + 1 : index + 2]
        if raw[index : index + 1] == b"\\" and following:
            if following == b"\n":
                index += 2
                continue
            if special is None or following in special:
                index += 1
        text += raw[index : index + 1]
        offsets.append(place + index)
        index += 1
    return Word(start, end, source, bytes(text), tuple(offsets), place)


def _join(words: list[Word], start: int, end: int, source: bytes) -> Word:
    """The pieces of one word; all that is literal on either side of a single variable is kept."""
    unknown = [index for index, word in enumerate(words) if word.text is None]
    if not unknown:
        return _glue(words, start, end, source)
    quoted = all(words[index].quoted for index in unknown)
    if len(unknown) > 1:
        return Word(start, end, source, None, before=_glue_some(words[: unknown[0]]), quoted=quoted)
    middle = words[unknown[0]]
    left = [*words[: unknown[0]], *([middle.before] if middle.before else [])]
    right = [*([middle.after] if middle.after else []), *words[unknown[0] + 1 :]]
    return Word(
        start,
        end,
        source,
        None,
        variable=middle.variable,
        before=_glue_some(left),
        after=_glue_some(right),
        quoted=quoted,
    )


def _glue_some(words: list[Word]) -> Word | None:
    if not words:
        return None
    return _glue(words, words[0].start, words[-1].end, b"".join(word.source for word in words))


def _glue(words: list[Word], start: int, end: int, source: bytes) -> Word:
    text = b"".join(word.text or b"" for word in words)
    offsets = tuple(offset for word in words for offset in word.offsets)
    return Word(start, end, source, text, offsets, words[0].begin if words else start)


def _fill_in(word: Word, value: Word) -> tuple[Word, ...]:
    """The word with its variable's value in place; an unquoted one falls apart at blanks."""
    pieces = [piece for piece in (word.before, value, word.after) if piece is not None]
    whole = replace(_glue(pieces, word.start, word.end, word.source), origin=word.variable, begin=value.begin)
    text = whole.text or b""
    if word.quoted:
        return (whole,)
    words = []
    first = 0
    for piece in text.split():
        first = text.index(piece, first)
        last = first + len(piece)
        words.append(replace(whole, text=piece, offsets=whole.offsets[first:last]))
        first = last
    if len(words) > 1:
        # What is inserted after one of them belongs into the variable.
        words = [replace(word, start=word.offsets[0], end=word.offsets[-1] + 1) for word in words]
    return tuple(words)
