"""vLLM's options among the words of its command.

They are argparse's: the last --host counts, and `_` may stand for `-` in a name (vllm/utils, FlexibleArgumentParser).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from wizard.parse.shell import Assignment
from wizard.parse.words import Word

# Options of vLLM that take no value: what follows them is a word of its own.
_FLAG = re.compile(
    rb"--(?:enable|disable|no|use|return|skip)-|--(?:trust-remote-code|enforce-eager|headless|async-scheduling)$"
)
_HOST_NAMES = frozenset({b"--host", b"--hos", b"--ho"})
_SECRET = frozenset({b"--api-key", b"--hf-token"})
_VALUED = _HOST_NAMES | {b"--port", b"--uds", b"--config"}
_NETWORK = re.compile(rb"--(?:host|uds|config)\b(?!-)")
_SCRIPT_ARGUMENTS = frozenset({b"$@", b"$*", b"${@}", b"${*}", b"${@:1}", b"${@:2}"})
_MASK = "•••".encode()
_MANY = re.compile(r"ARG|OPT|FLAG|EXTRA|PARAM", re.IGNORECASE)


class Source(Protocol):
    """Where a command stands: a shell script, or a unit, which assigns nothing."""

    source: bytes

    @property
    def assignments(self) -> Mapping[str, tuple[Assignment, ...]]: ...


@dataclass(frozen=True)
class Host:
    """A --host. `span` is where its value stands, `place` where the whole word is that has it, and `prefix` what that
    word begins with (`--host=`). None where there is no such place."""

    value: str | None
    span: tuple[int, int] | None
    place: tuple[int, int] | None
    prefix: bytes
    variable: str | None


@dataclass
class Options:
    """What vLLM's own arguments say, as far as they are known."""

    hosts: list[Host]
    arguments: bool
    valueless: bool = False
    port: int | None = None
    dynamic_port: bool = False
    keys: list[str] = field(default_factory=list)
    takes_arguments: bool = False
    uds: str | None = None
    config: str | None = None
    dynamic_config: bool = False  # it has a --config, and which file that is depends on something outside
    elsewhere: bool = False  # a word that is unknown, or there only sometimes, has or may have a --host behind these
    overridable: bool = False

    @property
    def dynamic_host(self) -> bool:
        return self.elsewhere or self.valueless or (bool(self.hosts) and self.hosts[-1].value is None)


def read_options(script: Source, words: list[Word], first: int, *, arguments: bool) -> Options:
    """What the words from index `first` on say to vLLM. `arguments`: "$@" may bring some."""
    options = Options(hosts=[], arguments=arguments)
    index = first
    while index < len(words):
        word = words[index]
        following = words[index + 1] if index + 1 < len(words) else None
        index += 1
        if word.text is None:
            if not _read_prefixed(script, options, word):
                _read_unknown(script, options, word, words[index - 2])
            continue
        if word.conditional:
            options.elsewhere |= _NETWORK.match(word.text) is not None
            continue
        if not word.text.startswith(b"--"):
            continue
        name, equals, value = word.text.partition(b"=")
        name = name.replace(b"_", b"-")
        if name in _SECRET:
            index += _read_secret(options, value if equals else None, words[index:])
        elif equals:
            _read_option(script, options, name, value, word, len(name) + 1)
        elif name in _VALUED:
            if following is None or (following.text or b"").startswith(b"--"):
                options.valueless |= name in _HOST_NAMES
                continue
            _read_option(script, options, name, following.text, following, 0)
            index += 1
    return options


def _read_secret(options: Options, value: bytes | None, following: list[Word]) -> int:
    """Keep the keys that are written out; the number of words that they take."""
    if value is not None:
        options.keys.append(value.decode("utf-8", "replace"))
        return 0
    count = 0
    for word in following:
        if word.source.startswith(b"-") or (word.text is None and word.spreads and count):
            break
        options.keys.append((word.source if word.text is None else word.text).decode("utf-8", "replace"))
        count += 1
    return count


def show_words(words: list[Word]) -> tuple[str, ...]:
    """The words as text, the values of secret options masked."""
    shown: list[str] = []
    secret = False
    for word in words:
        raw = word.source if word.text is None else word.text
        name, equals, _ = raw.partition(b"=")
        if raw.startswith(b"-"):
            secret = name.replace(b"_", b"-") in _SECRET
            if secret and equals:
                raw, secret = name + b"=" + _MASK, False
        elif secret:
            raw = _MASK
        shown.append(raw.decode("utf-8", "replace"))
    return tuple(shown)


def _read_prefixed(script: Source, options: Options, word: Word) -> bool:
    """--host="$HOST": the value alone is unknown. False if it is another word."""
    name, equals, _ = ((word.before.text if word.before else None) or b"").partition(b"=")
    name = name.replace(b"_", b"-")
    if not equals or name not in _VALUED:
        return False
    _read_option(script, options, name, None, word, len(name) + 1)
    return True


def _read_option(script: Source, options: Options, name: bytes, value: bytes | None, word: Word, first: int) -> None:
    text = None if value is None else value.decode("utf-8", "replace")
    if name in _HOST_NAMES:
        options.elsewhere = options.valueless = False
        options.overridable = False
        prefix = name + b"=" if first else b""
        is_one = word.text is not None or not any(many in word.source for many in (b"@", b"*"))
        place = (word.start, word.end) if is_one and script.source[word.start : word.end] == word.source else None
        span = None if text is None else word.span(first)
        options.hosts.append(Host(text, span, place, prefix, word.origin))
    elif name == b"--port":
        options.dynamic_port = text is None or not (text.isascii() and text.isdigit() and len(text) <= 5)
        options.port = _likely_port(script, word) if options.dynamic_port or text is None else int(text)
        options.dynamic_port |= word.outside
    elif name == b"--uds":
        options.uds = text if text is not None else word.source.decode("utf-8", "replace")
    elif name == b"--config":
        options.config = text
        options.dynamic_config = text is None


def _likely_port(script: Source, word: Word) -> int | None:
    """The default of a port that the script does not say for certain."""
    default = re.search(rb":-([0-9]{1,5})\}", word.source)
    if default is None:
        assigned = script.assignments.get(word.variable or "", ())
        default = re.search(rb"(?:=|:-)[\"']?([0-9]{1,5})[\"'}]*$", assigned[0].source) if len(assigned) == 1 else None
    return int(default[1]) if default else None


def _read_unknown(script: Source, options: Options, word: Word, previous: Word) -> None:
    """A word whose text is not known: may it hold a --host?"""
    sources = [word.source]
    if word.variable is not None:
        sources += [item.source for item in script.assignments.get(word.variable, ())]
    if any(_NETWORK.search(source) for source in sources):
        options.elsewhere = True
        return
    if word.source.strip(b'"') in _SCRIPT_ARGUMENTS:
        options.takes_arguments = True
        options.overridable |= options.arguments
    elif word.before is not None and (word.before.text or b"").startswith(b"--"):
        # --port="$PORT": one word, and not the host.
        return
    elif (previous.text or b"").startswith(b"--") and not _FLAG.match(previous.text or b""):
        options.overridable |= _MANY.search(word.variable or "") is not None and word.spreads
    elif word.spreads or (previous.text or b"").startswith(b"--"):
        options.overridable = True
