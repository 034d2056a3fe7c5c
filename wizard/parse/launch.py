"""The command that starts vLLM in a shell script, and the smallest edit that binds it to an address.

vLLM's options are argparse's: the last --host counts, and an absent one means every interface
(vllm/entrypoints/openai/cli_args.py).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wizard.parse import refusals
from wizard.parse.options import Host, Source, read_options, show_words
from wizard.parse.shell import Script
from wizard.parse.words import Word

if TYPE_CHECKING:
    from tree_sitter import Node

    from wizard.parse.vllm_config import VllmConfig

LARGEST = 64 * 1024  # bytes
_MODULES = frozenset({b"vllm.entrypoints.openai.api_server", b"vllm.entrypoints.api_server"})
_STARTS_VLLM = re.compile(rb"\bvllm\s+serve\b|\bvllm\.entrypoints\.(?:openai\.)?api_server\b|vllm/vllm-openai")
_PYTHON = re.compile(rb"(?:^|/)(?:python|pypy)[0-9.]*$")
_SHELLS = re.compile(rb"^#![^\n]*\b(?:ba|da|k|z|a)?sh\b")
_LOOPBACK = re.compile(r"127(?:\.\d{1,3}){3}|localhost|::1|\[::1\]")

# Programs that run their arguments as the command they are.
_WRAPPERS = frozenset(
    b"exec nohup command builtin coproc env sudo nice ionice numactl taskset stdbuf time timeout setsid"
    b" chrt setpriv systemd-cat uv uvx poetry pipenv pdm hatch conda mamba micromamba pipx runuser gosu"
    b" su-exec tini dumb-init catchsegv unbuffer chpst nsys prlimit choom".split()
)
# Programs that only talk about their arguments.
_TALKERS = frozenset(b"echo printf : true logger which type pkill pgrep kill killall grep log curl wget".split())


@dataclass(frozen=True)
class VllmCommand:
    """One vLLM server command. Spans and offsets count bytes of the script.

    `host` is None where the option is absent (every interface), or where `dynamic_host` says that it depends
    on something outside the script. `argv` shows an unknown word as it is written, and no key.
    """

    host: str | None
    port: int | None
    api_key_on_command_line: bool
    uds: str | None
    config: str | None
    insert_at: int
    argv: tuple[str, ...]
    dynamic_host: bool
    dynamic_port: bool = False
    overridable: bool = False  # a later word, unknown here, might hold another --host
    takes_arguments: bool = False  # the script's own arguments are passed on
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    last_host: Host | None = None  # the --host that counts, and where it stands
    valueless_host: bool = False
    dynamic_config: bool = False
    span: tuple[int, int] = (0, 0)

    @property
    def loopback(self) -> bool:
        """True if the host that counts is one of this machine's own."""
        return not self.dynamic_host and self.host is not None and is_loopback(self.host)


@dataclass(frozen=True)
class Launch:
    """The vLLM commands of a script; `refusal` says why it could not be read for certain.

    `asked` are the variables that the script takes from its environment.
    """

    commands: tuple[VllmCommand, ...]
    refusal: str | None
    remedy: str | None = None
    asked: frozenset[str] = frozenset()

    @property
    def command(self) -> VllmCommand | None:
        """The command that the service runs: the only one, or the first of several that listen on one port."""
        return self.commands[0] if len({one.port for one in self.commands}) == 1 else None


@dataclass(frozen=True)
class Edit:
    """The script's new content (the same where nothing is to be done), or why not and what to do by hand."""

    content: bytes | None
    refusal: str | None
    remedy: str | None


def is_loopback(host: str) -> bool:
    """True for 127.0.0.0/8, ::1 and localhost."""
    return _LOOPBACK.fullmatch(host) is not None


def parse_launch(source: bytes, environment: Mapping[str, str] | None = None, *, arguments: bool = True) -> Launch:
    """The vLLM commands of a launch script, and whether they could be read for certain.

    `environment` is what its service gets, None where that is not known; `arguments`, whether it gives it any.
    """
    if refusal := _unreadable(source):
        return Launch((), *refusal)
    script = Script(source, environment)
    if script.broken:
        return Launch((), "its shell syntax could not be understood", refusals.CHECK_SYNTAX)
    commands: list[VllmCommand] = []
    for node in script.commands:
        words = [known for word in script.words(node) for known in script.expand(word, node)]
        first = server_arguments(words)
        if first is not None and not _only_talks(words):
            if any(word.text in (b"--help", b"-h", b"--version") for word in words):
                continue
            if not runs_directly(words, first):
                return Launch(tuple(commands), *refusals.indirect(words))
            given = arguments or not _gets_script_arguments(script, node)
            span = (node.start_byte, max(word.end for word in script.words(node)))
            commands.append(read_command(script, words, first, span, arguments=given))
        elif mentions(words):
            return Launch(tuple(commands), *refusals.indirect(words))
    return Launch(tuple(commands), *_hidden(script, commands), frozenset(script.asked))


def bind_to(
    source: bytes,
    host: str = "127.0.0.1",
    environment: Mapping[str, str] | None = None,
    *,
    arguments: bool = True,
    config: "VllmConfig | None" = None,
) -> Edit:
    """The script with vLLM's host set, changed in no other byte; or a refusal where that can't be proven.

    A host on loopback already is left as it is, if nothing can override it. `config` is what the YAML file of --config
    says, where that was read.
    """
    from wizard.parse.binding import bind

    return bind(
        source,
        host,
        lambda text: parse_launch(text, environment, arguments=arguments),
        lambda text: parse_launch(text, arguments=arguments),
        config,
    )


def _unreadable(source: bytes) -> tuple[str, str] | None:
    if len(source) > LARGEST:
        return f"it has more than {LARGEST // 1024} KiB, which no launch script has", refusals.FROM_A_SCRIPT
    if b"\0" in source:
        return "it is a program, not a shell script", refusals.FROM_A_SCRIPT
    if source.startswith(b"#!") and not _SHELLS.match(source.split(b"\n", 1)[0]):
        return "it is not a shell script", refusals.FROM_A_SCRIPT
    lines = source.split(b"\n")
    # In a comment a carriage return does no harm.
    if any(line.endswith(b"\r") and (not line.lstrip().startswith(b"#") or line.startswith(b"#!")) for line in lines):
        remedy = "take them out: sudo sed -i 's/\\r$//' SCRIPT"
        return "it has Windows line ends, with which it can't be started", remedy
    return None


def server_arguments(words: list[Word]) -> int | None:
    """The index of the first word after `vllm serve` or the server's module, None if there is neither."""
    for index, word in enumerate(words):
        if word.text in _MODULES and index and words[index - 1].text == b"-m":
            return index + 1
        if word.text is not None and word.text.endswith(b"vllm/entrypoints/openai/api_server.py"):
            return index + 1
        following = words[index + 1].text if index + 1 < len(words) else None
        if following == b"serve" and (_is_vllm(word) or (word.text == b"vllm.entrypoints.cli.main")):
            return index + 2
    return None


def _is_vllm(word: Word) -> bool:
    if word.text is not None:
        return word.text.rpartition(b"/")[2] == b"vllm"
    if word.after is not None:
        return (word.after.text or b"").endswith(b"/vllm")
    return b"vllm" in word.source.lower()


def runs_directly(words: list[Word], first: int) -> bool:
    """True if nothing stands before vLLM but programs that pass their arguments on."""
    head = words[0]
    name = (head.text or b"").rpartition(b"/")[2]
    texts = (head.source, *(word.text or b"" for word in words[1:first]))
    if any(refusals.CONTAINER.search(text) for text in texts):
        return False
    if name in _WRAPPERS or (first == 2 and _is_vllm(head)):
        return True
    if head.text is None:
        return b"python" in head.source.lower()
    return _PYTHON.search(head.text) is not None


def _only_talks(words: list[Word]) -> bool:
    names = [(word.text or b"").rpartition(b"/")[2] for word in words[:2]]
    return names[0] in _TALKERS or (names[0] == b"sudo" and names[-1] in _TALKERS)


def mentions(words: list[Word]) -> bool:
    """True if a command holds another that starts vLLM, such as `bash -c "vllm serve …"`."""
    if not words or _only_talks(words):
        return False
    texts = [word.text or word.source for word in words if _STARTS_VLLM.search(word.text or word.source)]
    # Without an option, and not given to a shell, it is rather a message.
    if (words[0].text or b"").rpartition(b"/")[2] in refusals.RUNNERS:
        return bool(texts)
    return any(b"--" in text or refusals.CONTAINER.search(text) for text in texts)


def _hidden(script: Script, commands: list[VllmCommand]) -> tuple[str | None, str | None]:
    """Why the commands found may not be all, or not what they seem."""
    for node in script.nodes():
        text = script.source[node.start_byte : node.end_byte]
        if node.type == "heredoc_body" and _STARTS_VLLM.search(text):
            return (
                "the vllm command stands in a here-document, for another shell",
                refusals.WRITE_IT_OUT,
            )
        if node.type == "function_definition" and re.match(rb"(?:function\s+)?vllm\b(?!-)", text):
            return "the script defines a function named vllm", "give that function another name, and call it by that"
    if commands:
        return None, None
    if any(_STARTS_VLLM.search(item.source) for items in script.assignments.values() for item in items):
        return "the vllm command is put together in a variable", refusals.WRITE_IT_OUT
    return refusals.nothing([script.words(node) for node in script.commands])


def read_command(
    script: Source, words: list[Word], first: int, span: tuple[int, int], *, arguments: bool = True
) -> VllmCommand:
    """The command that these words are. `arguments`: "$@" may bring some."""
    options = read_options(script, words, first, arguments=arguments)
    model = first < len(words) and words[first - 1].text == b"serve" and _is_one_value(words[first])
    anchor = words[first] if model else words[first - 1]
    last = options.hosts[-1] if options.hosts else None
    return VllmCommand(
        host=None if options.dynamic_host or last is None else last.value,
        port=options.port,
        api_key_on_command_line=bool(options.keys),
        uds=options.uds,
        config=options.config,
        insert_at=span[1] if options.overridable or options.takes_arguments else anchor.end,
        argv=show_words(words),
        dynamic_host=options.dynamic_host,
        dynamic_port=options.dynamic_port,
        overridable=options.overridable,
        takes_arguments=options.takes_arguments,
        api_keys=tuple(options.keys),
        last_host=None if options.elsewhere else last,
        valueless_host=options.valueless,
        dynamic_config=options.dynamic_config,
        span=span,
    )


def _is_one_value(word: Word) -> bool:
    return not word.spreads and not (word.text or b"").startswith(b"-")


def _gets_script_arguments(script: Script, node: "Node") -> bool:
    """True if "$@" is here what the script was called with: not a function's arguments, not `set --`."""
    parent = node.parent
    while parent is not None:
        if parent.type == "function_definition":
            return False
        parent = parent.parent
    return not any(
        words and words[0].text == b"set"
        for words in map(script.words, script.commands)
        if b"--" in [word.text for word in words]
    )
