"""vLLM's options among the words of its command.

They are argparse's: the last --host counts, and `_` may stand for `-` in a name (vllm/utils, FlexibleArgumentParser).
"""

import re
from dataclasses import dataclass, field

from wizard.parse.shell import Script, Word

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


@dataclass
class Options:
    """What vLLM's own arguments say, as far as they are known."""

    hosts: list[tuple[str, tuple[int, int] | None, str | None]]
    port: int | None = None
    dynamic_port: bool = False
    keys: list[str] = field(default_factory=list)
    takes_arguments: bool = False
    uds: str | None = None
    config: str | None = None
    dynamic_host: bool = False
    overridable: bool = False


def read_options(script: Script, words: list[Word], first: int) -> Options:
    """What the words from index `first` on say to vLLM."""
    options = Options(hosts=[])
    index = first
    while index < len(words):
        word = words[index]
        following = words[index + 1] if index + 1 < len(words) else None
        index += 1
        if word.text is None:
            _read_unknown(script, options, word, words[index - 2])
            continue
        if word.conditional:
            options.dynamic_host |= _NETWORK.match(word.text) is not None
            continue
        if not word.text.startswith(b"--"):
            continue
        name, equals, value = word.text.partition(b"=")
        name = name.replace(b"_", b"-")
        if name in _SECRET:
            index += _read_secret(options, value if equals else None, words[index:])
        elif equals:
            _read_option(options, name, value, word, len(name) + 1)
        elif name in _VALUED:
            if following is None or (following.text or b"").startswith(b"--"):
                options.dynamic_host |= name in _HOST_NAMES
                continue
            _read_option(options, name, following.text, following, 0)
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


def _read_option(options: Options, name: bytes, value: bytes | None, word: Word, first: int) -> None:
    text = None if value is None else value.decode("utf-8", "replace")
    if name in _HOST_NAMES:
        options.dynamic_host = text is None
        options.overridable = False
        if text is not None:
            options.hosts.append((text, word.span(first), word.origin))
    elif name == b"--port":
        options.dynamic_port = text is None or not (text.isascii() and text.isdigit() and len(text) <= 5)
        options.port = None if options.dynamic_port or text is None else int(text)
        if options.dynamic_port and (default := re.search(rb":-([0-9]{1,5})\}", word.source)):
            options.port = int(default[1])
    elif name == b"--uds":
        options.uds = text if text is not None else word.source.decode("utf-8", "replace")
    elif name == b"--config":
        options.config = text if text is not None else word.source.decode("utf-8", "replace")


def _read_unknown(script: Script, options: Options, word: Word, previous: Word) -> None:
    """A word whose text is not known: may it hold a --host?"""
    sources = [word.source]
    if word.variable is not None:
        sources += [item.source for item in script.assignments.get(word.variable, ())]
    if any(_NETWORK.search(source) for source in sources):
        options.dynamic_host = True
        return
    if word.source.strip(b'"') in _SCRIPT_ARGUMENTS:
        options.takes_arguments = True
    elif word.before is not None and (word.before.text or b"").startswith(b"--"):
        # --port="$PORT": one word, and not the host.
        return
    elif (previous.text or b"").startswith(b"--") and not _FLAG.match(previous.text or b""):
        options.overridable |= _MANY.search(word.variable or "") is not None and word.spreads
    elif word.spreads or (previous.text or b"").startswith(b"--"):
        options.overridable = True
