"""Changes told to others: a program of root's, and a web address. What can't be delivered is kept for the next time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from .changes import Memory
from .engine import Look
from .model import TIMED_OUT
from .root_file import flaw_of_program
from .server import Machine, Request

COMMAND, URL = "notify_command", "notify_url"
COMMAND_S, URL_S = 30, 10
Notice = dict[str, Any]
Keep = Callable[[Memory], None]
Say = Callable[[str, bool], None]


def ways(look: Look) -> tuple[str, ...]:
    """The ways that the answers name."""
    return tuple(way for way in (COMMAND, URL) if getattr(look.answers.harden, way))


def add(memory: Memory, ways: tuple[str, ...], notices: tuple[Notice, ...]) -> Memory:
    """With these to be delivered, after what still waits; what waits for a way that is gone is forgotten."""
    for way in ways:
        memory = memory.with_waiting(way, (*memory.waiting.get(way, ()), *notices))
    for way in {COMMAND, URL} - set(ways):
        memory = memory.with_waiting(way, ()).with_refused(way, "")
    return memory


def deliver(machine: Machine, look: Look, memory: Memory, keep: Keep, say: Say) -> Memory:
    """Delivers what waits, the oldest first; a way that refuses is tried again the next time. `keep` is told of each
    that is delivered, `say` once of a way that refuses, and when it takes notices again."""
    for way in ways(look):
        while waiting := memory.waiting.get(way, ()):
            refused = memory.refused.get(way, "")
            reason = _send(machine, look, way, waiting[0])
            if reason and reason != refused:
                say(f"{way}: {reason}; it is tried again with each look", True)
            if reason:
                memory = memory.with_refused(way, reason)
                keep(memory)
                break
            memory = memory.with_waiting(way, waiting[1:]).with_refused(way, "")
            keep(memory)
            if refused:
                say(f"{way}: takes notices again", False)
    return memory


def _send(machine: Machine, look: Look, way: str, notice: Notice) -> str:
    """Why it could not be delivered; "" where it was."""
    body = (json.dumps(notice, ensure_ascii=False) + "\n").encode()
    harden = look.answers.harden
    return (
        _run(machine, look, harden.notify_command or "", body)
        if way == COMMAND
        else _post(machine, harden.notify_url or "", body)
    )


def _run(machine: Machine, look: Look, path: str, body: bytes) -> str:
    flaw, _ = flaw_of_program(look.server, path)
    if flaw:
        return f"{flaw}: root does not run it"
    output = machine.command((path,), stdin=body, timeout_s=COMMAND_S)
    if output.code == TIMED_OUT:
        return f"{path} took longer than {COMMAND_S} s, and was ended"
    return "" if output.ok else f"{path} ended with {output.outcome}"


def _post(machine: Machine, url: str, body: bytes) -> str:
    parts = urlsplit(url)
    host, where = parts.hostname or "", f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    asked = Request(host, parts.port or 443, "POST", where, parts.netloc, True, host, "", body=body, timeout_s=URL_S)
    response = machine.exchange(asked)
    if 200 <= response.status < 300:
        return ""
    # Its address may be a secret: the host alone is named.
    return f"{host} answered {response.status}" if response.status else f"{host}: {response.error}"
