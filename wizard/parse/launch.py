"""The command that starts vLLM in a shell script, and the smallest edit that binds it to an address.

vLLM's options are argparse's: the last --host counts, and an absent one means every interface
(vllm/entrypoints/openai/cli_args.py).
"""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wizard.parse.options import read_options, show_words
from wizard.parse.shell import Script, Word

if TYPE_CHECKING:
    from tree_sitter import Node

_MODULES = frozenset({b"vllm.entrypoints.openai.api_server", b"vllm.entrypoints.api_server"})
_STARTS_VLLM = re.compile(rb"\bvllm\s+serve\b|\bvllm\.entrypoints\.(?:openai\.)?api_server\b|vllm/vllm-openai")
_CONTAINER = re.compile(rb"\b(?:docker|podman|nerdctl|apptainer|singularity)\b|vllm/vllm-openai")
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
# Programs that run a text as a command.
_RUNNERS = frozenset(b"bash sh dash zsh ksh eval su ssh tmux screen trap xargs parallel srun at batch".split())


@dataclass(frozen=True)
class VllmCommand:
    """One vLLM server command. Spans and offsets count bytes of the script.

    `host` is None where the option is absent (every interface), or where `dynamic_host` says that it depends
    on something outside the script. `argv` shows an unknown word as it is written, and no key.
    """

    host: str | None
    host_span: tuple[int, int] | None
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
    host_variable: str | None = None  # the variable of the script that holds the host
    end: int = 0
    span: tuple[int, int] = (0, 0)

    @property
    def loopback(self) -> bool:
        """True if the host that counts is one of this machine's own."""
        return not self.dynamic_host and self.host is not None and is_loopback(self.host)


@dataclass(frozen=True)
class Launch:
    """The vLLM commands of a script; `refusal` says why it could not be read for certain."""

    commands: tuple[VllmCommand, ...]
    refusal: str | None
    remedy: str | None = None


@dataclass(frozen=True)
class Edit:
    """The script's new content (the same where nothing is to be done), or why not and what to do by hand."""

    content: bytes | None
    refusal: str | None
    remedy: str | None


def is_loopback(host: str) -> bool:
    """True for 127.0.0.0/8, ::1 and localhost."""
    return _LOOPBACK.fullmatch(host) is not None


def parse_launch(source: bytes) -> Launch:
    """The vLLM commands of a launch script, and whether they could be read for certain."""
    if refusal := _unreadable(source):
        return Launch((), refusal, "start vLLM from a bash script with one vllm command in it")
    script = Script(source)
    if script.broken:
        return Launch((), "its shell syntax could not be understood", "run bash -n on it and put it right")
    commands: list[VllmCommand] = []
    for node in script.commands:
        words = [known for word in script.words(node) for known in script.expand(word, node)]
        first = _server_arguments(words)
        if first is not None and not _only_talks(words):
            if any(word.text in (b"--help", b"-h", b"--version") for word in words):
                continue
            if not _runs_directly(words, first):
                return Launch(tuple(commands), *_indirect(words))
            commands.append(_read_command(script, node, words, first))
        elif _mentions(words):
            return Launch(tuple(commands), *_indirect(words))
    return Launch(tuple(commands), *_hidden(script, commands))


def bind_to(source: bytes, host: str = "127.0.0.1") -> Edit:
    """The script with vLLM's host set, changed in no other byte; or a refusal where that can't be proven.

    A host on loopback already is left as it is. Arguments that the script itself gets (`"$@"`) are its
    caller's and not judged here.
    """
    from wizard.parse.binding import bind

    return bind(source, host)


def _unreadable(source: bytes) -> str | None:
    if b"\0" in source:
        return "it is a program, not a shell script"
    if source.startswith(b"#!") and not _SHELLS.match(source.split(b"\n", 1)[0]):
        return "it is not a shell script"
    if b"\r\n" in source:
        return "it has Windows line ends, with which it can't be started"
    return None


def _server_arguments(words: list[Word]) -> int | None:
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


def _runs_directly(words: list[Word], first: int) -> bool:
    """True if nothing stands before vLLM but programs that pass their arguments on."""
    head = words[0]
    name = (head.text or b"").rpartition(b"/")[2]
    if _CONTAINER.search(head.source) or any(_CONTAINER.search(word.text or b"") for word in words[1:first]):
        return False
    if name in _WRAPPERS or (first == 2 and _is_vllm(head)):
        return True
    if head.text is None:
        return b"python" in head.source.lower()
    return _PYTHON.search(head.text) is not None


def _only_talks(words: list[Word]) -> bool:
    names = [(word.text or b"").rpartition(b"/")[2] for word in words[:2]]
    return names[0] in _TALKERS or (names[0] == b"sudo" and names[-1] in _TALKERS)


def _mentions(words: list[Word]) -> bool:
    """True if a command holds another that starts vLLM, such as `bash -c "vllm serve …"`."""
    if not words or _only_talks(words):
        return False
    texts = [word.text or word.source for word in words if _STARTS_VLLM.search(word.text or word.source)]
    # Without an option, and not given to a shell, it is rather a message.
    if (words[0].text or b"").rpartition(b"/")[2] in _RUNNERS:
        return bool(texts)
    return any(b"--" in text or _CONTAINER.search(text) for text in texts)


def _indirect(words: list[Word]) -> tuple[str, str]:
    name = words[0].source.decode("utf-8", "replace")
    if any(_CONTAINER.search(word.text or word.source) for word in words):
        return (
            "vLLM runs in a container",
            "publish its port on loopback only: -p 127.0.0.1:8000:8000",
        )
    return (
        f"vLLM is started through `{name}`, which may change its arguments",
        "write the command itself in the script: exec vllm serve MODEL --host 127.0.0.1 …",
    )


def _hidden(script: Script, commands: list[VllmCommand]) -> tuple[str | None, str | None]:
    """Why the commands found may not be all, or not what they seem."""
    for node in script.nodes():
        text = script.source[node.start_byte : node.end_byte]
        if node.type == "heredoc_body" and _STARTS_VLLM.search(text):
            return (
                "the vllm command stands in a here-document, for another shell",
                "write it in the script itself",
            )
        if node.type == "function_definition" and re.match(rb"(?:function\s+)?vllm\b(?!-)", text):
            return "the script defines a function named vllm", "give that function another name"
    if commands:
        return None, None
    if any(_STARTS_VLLM.search(item.source) for items in script.assignments.values() for item in items):
        return (
            "the vllm command is put together in a variable",
            "write the command itself in the script: exec vllm serve MODEL --host 127.0.0.1 …",
        )
    return (
        "no command in it starts vLLM",
        "name the script that runs `vllm serve` in the answers: vllm.launch_script",
    )


def _read_command(script: Script, node: "Node", words: list[Word], first: int) -> VllmCommand:
    options = read_options(script, words, first)
    if options.takes_arguments and not _gets_script_arguments(script, node):
        options.overridable = True
    model = first < len(words) and words[first - 1].text == b"serve" and _is_one_value(words[first])
    anchor = words[first] if model else words[first - 1]
    host, span, variable = options.hosts[-1] if options.hosts else (None, None, None)
    end = max(word.end for word in script.words(node))
    return VllmCommand(
        host=None if options.dynamic_host else host,
        host_span=None if options.dynamic_host else span,
        port=options.port,
        api_key_on_command_line=bool(options.keys),
        uds=options.uds,
        config=options.config,
        insert_at=end if options.overridable or options.takes_arguments else anchor.end,
        argv=show_words(words),
        dynamic_host=options.dynamic_host,
        dynamic_port=options.dynamic_port,
        overridable=options.overridable,
        takes_arguments=options.takes_arguments,
        api_keys=tuple(options.keys),
        host_variable=variable,
        end=end,
        span=(node.start_byte, end),
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
