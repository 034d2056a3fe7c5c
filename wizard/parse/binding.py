"""The smallest edit that binds vLLM to one host, and the sentences where there is none.

An edit has to hold whatever the environment says. So the value of --host is changed where it is written out once and
for vLLM alone; else the word gives way that stands for it in the command; else the option is put behind all others,
where argparse takes it for the one that counts.
"""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from wizard.parse.launch import Edit, Launch, VllmCommand, is_loopback
from wizard.parse.shell import Script
from wizard.parse.vllm_config import VllmConfig

if TYPE_CHECKING:
    from tree_sitter import Node

# Letters, digits, dots, colons, dashes: nothing that a shell or systemd would touch.
_HOST = re.compile(r"[0-9A-Za-z:][0-9A-Za-z.:-]*")
# Commands for which another loopback address in a text or URL makes no difference.
_READERS = frozenset(b"echo printf logger log curl wget export".split())
# vLLM's processes talk to each other over this address.
_NOT_A_HOST_ALONE = "VLLM_HOST_IP"
Change = tuple[int, int, bytes]
Parse = Callable[[bytes], Launch]


def bind(source: bytes, host: str, parse: Parse, parse_anywhere: Parse, config: VllmConfig | None = None) -> Edit:
    """See wizard.parse.launch.bind_to. `parse` knows the environment of now, `parse_anywhere` none."""
    found = find_changes(source, host, parse, parse_anywhere, config)
    return found if isinstance(found, Edit) else Edit(rewrite(source, found), None, None)


def find_changes(
    source: bytes, host: str, parse: Parse, parse_anywhere: Parse, config: VllmConfig | None = None
) -> Edit | tuple[Change, ...]:
    """The changes that bind it, none where it is bound; or an edit that says why there are none."""
    if not _HOST.fullmatch(host):
        return Edit(None, "the host is not an address or a name", "name an address: 127.0.0.1")
    launch = parse(source)
    if launch.refusal is not None:
        return Edit(None, launch.refusal, launch.remedy)
    if all(_is_bound(command, host, config) for command in launch.commands):
        return ()
    if refusal := _refuse(launch, host, config):
        return Edit(None, *refusal)
    anywhere = parse_anywhere(source)
    if anywhere.refusal is not None or len(anywhere.commands) != len(launch.commands):
        anywhere, parse_anywhere = launch, parse
    changes = tuple(sorted({change for command in anywhere.commands for change in _changes(source, command, host)}))
    meet = any(one[1] > other[0] for one, other in pairwise(changes))
    if meet or not _proves(parse_anywhere(rewrite(source, changes)), anywhere, host):
        return Edit(
            None,
            "where the value of --host comes from could not be made out for certain",
            f"write it out in the vllm command: --host {host}",
        )
    return changes


def _is_bound(command: VllmCommand, host: str, config: VllmConfig | None) -> bool:
    if command.uds is not None or command.dynamic_host or command.overridable:
        return False
    said = command.host
    if said is None and command.config is not None and config is not None and config.uds is None:
        said = config.host
    return said is not None and (said == host or (is_loopback(host) and is_loopback(said)))


def _refuse(launch: Launch, host: str, config: VllmConfig | None) -> tuple[str, str] | None:
    command = launch.command
    if command is None:
        count = len(launch.commands)
        return (
            f"it has {count} vllm commands on different ports, and which of them is to be served can't be known",
            f"start one vLLM a script; or add --host {host} to each of them",
        )
    uds = next((one.uds for one in launch.commands if one.uds is not None), None)
    where = "--uds"
    if uds is None and config is not None and any(one.config is not None for one in launch.commands):
        uds, where = config.uds, f"uds in {config.path}"
    if uds is not None:
        return (
            f"nothing is to be bound: vLLM listens on the UNIX socket {uds} alone ({where}), and not on a port",
            f"give it a port, which Caddy passes requests on to: --host {host} --port 8000 in the place of {where}",
        )
    if any(one.valueless_host for one in launch.commands):
        return "--host stands there without a value", f"write --host {host}"
    return None


def rewrite(source: bytes, changes: Sequence[Change]) -> bytes:
    """The text with all changes done; they are sorted, and none meets another."""
    for start, end, text in reversed(changes):
        source = source[:start] + text + source[end:]
    return source


def _changes(source: bytes, command: VllmCommand, host: str) -> list[Change]:
    option = b" --host " + host.encode()
    end = command.span[1]
    behind = [(end, end, option)]
    last = command.last_host
    if command.dynamic_host and last is None:
        return behind
    if last is None:
        return [(command.insert_at, command.insert_at, option)]
    if last.value is not None and (last.value == host or is_loopback(last.value)) and is_loopback(host):
        return behind if command.overridable else []
    in_command = last.place is not None and command.span[0] <= last.place[0] < end
    if last.span is not None and (last.variable is None or _is_vllms_alone(source, command, last.variable)):
        changes = [(*last.span, host.encode())]
    elif last.place is not None and (in_command or _is_vllms_alone(source, command, last.variable or "")):
        changes = [(*last.place, last.prefix + host.encode())]
    else:
        return behind
    return changes + (behind if command.overridable else [])


def _is_vllms_alone(source: bytes, command: VllmCommand, name: str) -> bool:
    """True if nothing that another host would harm uses the variable, too."""
    if name == _NOT_A_HOST_ALONE:
        return False
    script = Script(source)
    for node in script.nodes():
        if node.type != "variable_name" or source[node.start_byte : node.end_byte] != name.encode():
            continue
        if command.span[0] <= node.start_byte < command.span[1] or not _is_use(node):
            continue
        if _user(script, node) not in _READERS:
            return False
    return True


def _is_use(node: "Node") -> bool:
    parent = node.parent
    while parent is not None and parent.type == "subscript":
        parent = parent.parent
    return parent is not None and parent.type in ("simple_expansion", "expansion")


def _user(script: Script, node: "Node") -> bytes:
    """The name of the command around an expansion; b"" for anything else around it."""
    parent = node.parent
    while parent is not None and parent.type not in ("command", "variable_assignment", "program"):
        parent = parent.parent
    if parent is None or parent.type != "command":
        return b""
    words = script.words(parent)
    return words[0].source if words else b""


def _proves(edited: Launch, before: Launch, host: str) -> bool:
    """True if each command has this host for certain, in any environment, and its other arguments as they were."""
    if edited.refusal is not None or len(edited.commands) != len(before.commands):
        return False
    return all(
        one.host == host
        and not (one.dynamic_host or one.overridable)
        and (one.last_host is not None and one.last_host.span is not None)
        and _without_host(one.argv) == _without_host(was.argv)
        for one, was in zip(edited.commands, before.commands, strict=True)
    )


def _without_host(argv: Sequence[str]) -> list[str]:
    kept, words = [], iter(argv)
    for word in words:
        if word == "--host":
            next(words, None)
        elif not word.startswith("--host="):
            kept.append(word)
    return kept
