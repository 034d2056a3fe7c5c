"""ExecStart= of a unit file, each byte of its words with its place in the file.

systemd's own rules (systemd.service(5), "Command lines"; extract-word.c and conf-parser.c of systemd 255) are not the
shell's: ${NAME} stays one word, $NAME alone may become several, %x is a specifier, and $$ and %% are the signs.
"""

import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from wizard.parse import refusals
from wizard.parse.in_shell import ONE_SCRIPT, Inline, bind_inline, read_inline
from wizard.parse.launch import Edit, Launch, read_command, runs_directly, server_arguments
from wizard.parse.shell import Assignment
from wizard.parse.vllm_config import VllmConfig
from wizard.parse.words import Word, fill_in, given

_SECTION = re.compile(rb"\[([^\]]+)\]\s*$")
_SHELLS = ("bash", "sh", "dash", "zsh", "ksh")
_PREFIXES = b"-:+!|"
_BLANK = b" \t"
_VARIABLE = re.compile(rb"\$\{([A-Za-z_]\w*)\}")
_BARE = re.compile(rb"\$([A-Za-z_]\w*)$")


@dataclass(frozen=True)
class Line:
    """A value with its continued lines joined; `places` are those of its bytes in the file."""

    text: bytes
    places: tuple[int, ...]


@dataclass
class UnitFile:
    """What a command stands in that assigns nothing itself."""

    source: bytes
    assignments: Mapping[str, tuple[Assignment, ...]] = field(default_factory=dict)


def holds_command(argv: Sequence[str]) -> bool:
    """True if these words of ExecStart= are the command that starts vLLM, and not a script that has it."""
    words = [Word(0, 0, word.encode(), word.encode()) for word in argv]
    name = posixpath.basename(argv[0]) if argv else ""
    behind = next((index for index, word in enumerate(argv) if index and re.fullmatch(r"-[a-z]*c", word)), 0)
    in_shell = name in _SHELLS and behind and not ONE_SCRIPT.fullmatch(" ".join(argv[behind + 1 :]))
    return bool(in_shell) or refusals.CONTAINER.match(name.encode()) is not None or server_arguments(words) is not None


def exec_lines(content: bytes) -> tuple[Line, ...]:
    """The ExecStart= that count in this file: an empty one clears those before it, and stands first."""
    return _values(content, b"ExecStart")


def parse_set(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """What Environment= sets, in the unit's file and its drop-ins in their order; a name may come again."""
    kept: list[tuple[str, str]] = []
    for text in texts:
        for line in _values(text.encode(), b"Environment"):
            if not line.text:
                kept.clear()
            for word in _split(line.text.decode("utf-8", "replace")):
                name, equals, value = word.partition("=")
                if equals:
                    kept.append((name, value.replace("%%", "%")))
    yield from kept


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _values(content: bytes, wanted: bytes) -> tuple[Line, ...]:
    """The values of a list in [Service]: an empty one clears those before it, and stands first."""
    found: list[Line] = []
    section = b""
    for line in _logical_lines(content):
        if header := _SECTION.match(line.text):
            section = header[1]
            continue
        name, equals, value = line.text.partition(b"=")
        if section != b"Service" or not equals or name.strip() != wanted:
            continue
        first = len(name) + 1 + len(value) - len(value.lstrip())
        one = Line(value.strip(), line.places[first : first + len(value.strip())])
        found = [*found, one] if one.text else [one]
    return tuple(found)


def parse_exec(content: bytes, environment: Mapping[str, str] | None = None) -> Launch:
    """The vLLM command of a unit file. `environment` is what the service gets, None where that is not known."""
    lines = [line for line in exec_lines(content) if line.text]
    if len(lines) != 1:
        said = "it has no ExecStart=" if not lines else f"it has {len(lines)} ExecStart= lines"
        return Launch((), said, refusals.IN_UNIT)
    if inline := _inline(lines[0]):
        return inline.parse(inline.source, environment)
    expands, words = _words(lines[0], content)
    asked = {word.variable for word in words if expands and word.variable}
    if expands and environment is not None:
        words = [known for word in words for known in _expand(word, environment)]
    elif not expands:
        words = [replace(word, text=word.source) if word.variable else word for word in words]
    first = server_arguments(words)
    if first is None or not runs_directly(words, first):
        return Launch((), *refusals.in_unit(words))
    span = (words[0].start, max(word.end for word in words))
    command = read_command(UnitFile(content), words, first, span)
    return Launch((command,), None, None, frozenset(name for name in asked if name))


def bind_exec(
    content: bytes,
    host: str = "127.0.0.1",
    environment: Mapping[str, str] | None = None,
    config: VllmConfig | None = None,
) -> Edit:
    """The unit file with vLLM's host set, changed in no other byte; see wizard.parse.launch.bind_to."""
    from wizard.parse.binding import bind, find_changes, rewrite

    inline = find_inline(content)
    if inline is None:
        return bind(content, host, lambda text: parse_exec(text, environment), parse_exec, config)
    now, anywhere = (partial(inline.parse, environment=known) for known in (environment, None))
    changes = find_changes(inline.source, host, now, anywhere, config)
    if isinstance(changes, Edit):
        return changes
    edited = rewrite(content, inline.in_file(changes))
    return bind_inline(edited, inline, find_inline(edited), changes)


def find_inline(content: bytes) -> Inline | None:
    """The program that the unit gives to a shell; None where it starts vLLM in another way."""
    lines = [line for line in exec_lines(content) if line.text]
    return _inline(lines[0]) if len(lines) == 1 else None


def _inline(line: Line) -> Inline | None:
    expands, words = _split_line(line)
    return read_inline(line.text, line.places, words, expands=expands)


def exec_words(content: bytes) -> tuple[str, ...]:
    """The words of ExecStart= as `systemctl show` has them: without quotes, %% as the sign, all else as written."""
    lines = [line for line in exec_lines(content) if line.text]
    words = (_unquoted(lines[0], *one)[0] for one in _split_line(lines[0])[1]) if len(lines) == 1 else ()
    return tuple(word.replace(b"%%", b"%").decode("utf-8", "replace") for word in words)


def _logical_lines(content: bytes) -> list[Line]:
    """Lines as systemd joins them: a comment in the middle of a continued one is left out."""
    lines: list[Line] = []
    text, places = b"", list[int]()
    start = 0
    for raw in content.split(b"\n"):
        begin, start = start, start + len(raw) + 1
        line = raw.rstrip(b"\r")
        skipped = len(line) - len(line.lstrip())
        body = line[skipped:]
        if body.startswith((b"#", b";")) or (not body and not text):
            continue
        goes_on = (len(body) - len(body.rstrip(b"\\"))) % 2 == 1
        text += body[:-1] + b" " if goes_on else body
        places += range(begin + skipped, begin + len(line))
        if not goes_on:
            lines.append(Line(text, tuple(places)))
            text, places = b"", []
    return [*lines, Line(text, tuple(places))] if text else lines


def _words(line: Line, content: bytes) -> tuple[bool, list[Word]]:
    """The same, and the words themselves; the signs before the program are no part of it."""
    expands, words = _split_line(line)
    return expands, [_word(line, begin, end, content) for begin, end in words]


def _split_line(line: Line) -> tuple[bool, list[tuple[int, int]]]:
    """Whether variables are expanded, and where the words stand in the line."""
    index, expands = 0, True
    while line.text[index : index + 1] and line.text[index] in _PREFIXES:
        expands &= line.text[index] != ord(":")
        index += 1
    words: list[tuple[int, int]] = []
    while index < len(line.text):
        if line.text[index] in _BLANK:
            index += 1
            continue
        begin, index = index, _end_of_word(line.text, index)
        words.append((begin, index))
    return expands, words


def _end_of_word(text: bytes, index: int) -> int:
    quote = 0
    while index < len(text):
        sign = text[index]
        if sign == ord("\\"):
            index += 1
        elif quote:
            quote = 0 if sign == quote else quote
        elif sign in b"'\"":
            quote = sign
        elif sign in _BLANK:
            break
        index += 1
    return min(index, len(text))


def _word(line: Line, begin: int, end: int, content: bytes) -> Word:
    start, stop = line.places[begin], line.places[end - 1] + 1
    text, places, odd = _unquoted(line, begin, end)
    source = content[start:stop]
    word = Word(start, stop, source, text, tuple(places), start)
    variables = [found for found in re.finditer(rb"\$\$|%%|\$\{[^}]*\}|%.", text) if found[0] not in (b"$$", b"%%")]
    if bare := _BARE.fullmatch(line.text[begin:end]):
        return replace(word, text=None, offsets=(), variable=bare[1].decode(), quoted=False)
    if odd:
        return replace(word, text=None, offsets=())
    if not variables:
        return _without_doubles(word)
    first = variables[0]
    known = _VARIABLE.fullmatch(first[0]) if len(variables) == 1 else None
    before = _without_doubles(replace(word, text=text[: first.start()], offsets=tuple(places[: first.start()])))
    after = _without_doubles(replace(word, text=text[first.end() :], offsets=tuple(places[first.end() :])))
    return replace(
        word,
        text=None,
        offsets=(),
        variable=known[1].decode() if known else None,
        before=before if before.text else None,
        after=after if known and after.text else None,
    )


def _unquoted(line: Line, begin: int, end: int) -> tuple[bytes, list[int], bool]:
    """The word without its quotes, and whether there is a backslash in it, whose many meanings are not needed here."""
    text, places, quote = bytearray(), [], 0
    for index in range(begin, end):
        sign = line.text[index]
        if sign in b"'\"" and quote in (0, sign):
            quote = sign if not quote else 0
            continue
        text.append(sign)
        places.append(line.places[index])
    return bytes(text), places, b"\\" in line.text[begin:end]


def _without_doubles(word: Word) -> Word:
    """$$ and %% as the signs that they stand for."""
    text, places, index = bytearray(), [], 0
    source = word.text or b""
    while index < len(source):
        text.append(source[index])
        places.append(word.offsets[index])
        index += 2 if source[index : index + 2] in (b"$$", b"%%") else 1
    return replace(word, text=bytes(text), offsets=tuple(places))


def _expand(word: Word, environment: Mapping[str, str]) -> tuple[Word, ...]:
    if word.text is not None or word.variable is None:
        return (word,)
    return fill_in(word, given(word, environment.get(word.variable, "")))
