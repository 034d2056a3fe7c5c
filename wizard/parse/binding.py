"""The smallest edit of a launch script that binds vLLM to one host, and the sentences where there is none."""

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from wizard.parse.launch import Edit, Launch, VllmCommand, is_loopback, parse_launch
from wizard.parse.shell import Script

if TYPE_CHECKING:
    from tree_sitter import Node

# Letters, digits, dots, colons, dashes: nothing that a shell would touch.
_HOST = re.compile(r"[0-9A-Za-z:][0-9A-Za-z.:-]*")
# Commands for which another loopback address in a text or URL makes no difference.
_READ_IN = frozenset({b"source", b".", b"eval"})
# Virtual environments and conda set PATH and their own variables.
_HARMLESS = re.compile(r"/activate\b|\bconda\b")
_READERS = frozenset(b"echo printf logger log curl wget export".split())


def bind(source: bytes, host: str) -> Edit:
    """See wizard.parse.launch.bind_to."""
    if not _HOST.fullmatch(host):
        return Edit(None, "the host is not an address or a name", None)
    launch = parse_launch(source)
    if launch.refusal is not None:
        return Edit(None, launch.refusal, launch.remedy)
    if all(_is_bound(command, host) for command in launch.commands):
        return Edit(source, None, None)
    if refusal := _refuse(launch, source, host):
        return Edit(None, *refusal)
    content = _rewrite(source, launch.commands[0], host)
    if content is None or not _proves(content, host):
        return Edit(
            None,
            "the value of --host is put together from several quoted pieces",
            f"write it as one word: --host {host}",
        )
    return Edit(content, None, None)


def _is_bound(command: VllmCommand, host: str) -> bool:
    if command.uds is not None or command.dynamic_host:
        return False
    return command.host == host or (is_loopback(host) and command.loopback)


def _refuse(launch: Launch, source: bytes, host: str) -> tuple[str, str] | None:
    if len(launch.commands) > 1:
        return (
            f"it has {len(launch.commands)} vllm commands, and which of them the service runs can't be known",
            f"add --host {host} to each of them",
        )
    command = launch.commands[0]
    if command.uds is not None:
        return (
            "vLLM listens on a UNIX socket (--uds), so --host has no effect",
            f"replace --uds by --host {host} and a --port",
        )
    if command.dynamic_host and any(
        word == "--host" and following.startswith("--") for word, following in pairwise((*command.argv, "--"))
    ):
        return "--host stands there without a value", f"write --host {host}"
    if command.dynamic_host:
        return (
            "the host comes from a variable whose value the script alone does not say",
            f"write it out in the vllm command: --host {host}",
        )
    if command.host is None and command.config is not None:
        return (
            f"the host may be set in vLLM's configuration file ({command.config})",
            f"write host: {host} in that file, or --host {host} in the vllm command",
        )
    if command.host_variable is not None:
        return _refuse_variable(Script(source), command, host)
    return None


def _refuse_variable(script: Script, command: VllmCommand, host: str) -> tuple[str, str] | None:
    name = command.host_variable or ""
    remedy = f"write it out in the vllm command: --host {host}"
    if name == "VLLM_HOST_IP":
        return f"{name} holds the host, and vLLM uses it for its own processes too", remedy
    start = command.host_span[0] if command.host_span else 0
    for node in script.commands:
        words = script.words(node)
        if words and words[0].text in _READ_IN and start < node.start_byte < command.span[0]:
            shown = script.source[node.start_byte : node.end_byte].split(b"\n")[0].decode("utf-8", "replace")
            if not _HARMLESS.search(shown):
                return f"what `{shown}` reads in may give {name}, which holds the host, another value", remedy
    for node in script.nodes():
        if node.type != "variable_name" or script.source[node.start_byte : node.end_byte] != name.encode():
            continue
        if command.span[0] <= node.start_byte < command.span[1] or not _is_use(node):
            continue
        user = _user(script, node)
        if user not in _READERS:
            shown = user.decode("utf-8", "replace")
            return f"the variable {name}, which holds the host, is also used by `{shown}`", remedy
    return None


def _is_use(node: "Node") -> bool:
    parent = node.parent
    while parent is not None and parent.type == "subscript":
        parent = parent.parent
    return parent is not None and parent.type in ("simple_expansion", "expansion")


def _user(script: Script, node: "Node") -> bytes:
    """The name of the command around an expansion, or the text of what else is around it."""
    parent = node.parent
    while parent is not None and parent.type not in ("command", "variable_assignment", "program"):
        parent = parent.parent
    if parent is None or parent.type == "program":
        return b"the script"
    if parent.type == "command":
        words = script.words(parent)
        return words[0].source if words else b"the script"
    return script.source[parent.start_byte : parent.end_byte].split(b"=")[0] + b"="


def _rewrite(source: bytes, command: VllmCommand, host: str) -> bytes | None:
    option = b" --host " + host.encode()
    if command.host is None:
        return source[: command.insert_at] + option + source[command.insert_at :]
    if command.host_span is None:
        return None
    start, end = command.host_span
    if command.overridable and end <= command.end:
        source = source[: command.end] + option + source[command.end :]
    return source[:start] + host.encode() + source[end:]


def _proves(content: bytes, host: str) -> bool:
    launch = parse_launch(content)
    return launch.refusal is None and [command.host for command in launch.commands] == [host]
