"""`vllm-https-setup watch`: what `status` does, again and again; only what has changed is told.

Nothing is changed by it but what it remembers, and the text file of metrics. While a run is under way it looks away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import posixpath
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from . import certificate_end, checked, commands, files, notices, paths, runs
from .changes import Change, Memory, compare, compare_certificate, confirmed, new_troubles, read_memory, sight_of
from .model import SetupError
from .prometheus import exposition, is_anothers
from .root_file import flaw_of_directory
from .session import Session

PAUSE_S = 20.0  # a model that is busy for a moment, or a service that is restarted, is no news
FILE = "prometheus_file"


def watch(say: notices.Say, pause_s: float = PAUSE_S) -> None:
    """One look, or two where something is newly wrong; `say` gets a line a change, and whether it is a bad one.
    Raises NoAnswers where this server was never set up, SetupError where nothing can be seen or remembered."""
    text = commands.saved_answers()
    with _alone() as alone:
        if not alone or _is_run_under_way():
            return
        state = files.read(paths.WATCH_SEEN)
        memory = read_memory(state.text if state and state.kind == "file" else "")
        document = commands.status()
        sight = sight_of(document)
        if new_troubles(memory, sight):
            time.sleep(pause_s)
            if _is_run_under_way():
                return
            document = commands.status()
            sight = confirmed(memory, sight, sight_of(document))
        # What a run does, or an uninstall, is no news either.
        if _is_run_under_way() or files.read(paths.ANSWERS) is None:
            return
        now = time.time()
        changes, memory = compare(memory, sight, now)
        Watch(Session(checked.load_saved(text), operator=None), memory, say).tell(changes, document, now)


class Watch:
    """What one look has to tell, and to whom."""

    def __init__(self, session: Session, memory: Memory, say: notices.Say) -> None:
        self._session, self._memory, self._say = session, memory, say
        self._harden = session.look.answers.harden
        if self._harden.notify_url:
            session.mask.add(self._harden.notify_url)

    def tell(self, changes: tuple[Change, ...], document: dict[str, Any], now: float) -> None:
        look = self._session.look
        ending = certificate_end.find_ending(look)
        more, memory = compare_certificate(self._memory, ending, datetime.fromtimestamp(now, UTC))
        changes = (*changes, *(self._with_refusal(one) for one in more))
        for change in changes:
            self._line(change.text, change.is_bad)
        server, endpoint = next(iter(look.server.host_names()), ""), document["endpoint"]["base_url"]
        told = tuple(self._session.mask.value(change.as_json(server, endpoint)) for change in changes)
        memory = notices.add(memory, notices.ways(look), told)
        # What was said before it is remembered is said twice if this is killed here, and never lost.
        if memory != self._memory or told or files.read(paths.WATCH_SEEN) is None:
            self._keep(memory)
        memory = notices.deliver(self._session.machine, look, memory, self._keep, self._line)
        self._write_metrics(memory, exposition(document, ending.not_after if ending else None, now))

    def _with_refusal(self, change: Change) -> Change:
        """The end of an ACME certificate with the reason that Caddy has for it."""
        if self._session.look.answers.tls.mode != "acme" or not change.is_bad:
            return change
        refusal = certificate_end.last_refusal(self._session.look)
        return replace(change, text=f"{change.text}: {' '.join(refusal.split())}") if refusal else change

    def _write_metrics(self, memory: Memory, text: str) -> None:
        path = self._harden.prometheus_file
        reason = self._try_metrics(path, text) if path else ""
        if reason and reason != memory.refused.get(FILE):
            self._line(f"{FILE}: {reason}", True)
        if reason != memory.refused.get(FILE, ""):
            self._keep(memory.with_refused(FILE, reason))

    def _try_metrics(self, path: str, text: str) -> str:
        """Why the file could not be written; "" where it was."""
        server = self._session.server
        if flaw := flaw_of_directory(server, posixpath.dirname(path)):
            return f"{flaw}: nothing is written there"
        if is_anothers(server.read(path)):
            return f"{path} is not from here: it is not written over"
        try:
            files.write(path, text.encode(), mode=0o644)
        except SetupError as error:
            return error.message
        return ""

    def _line(self, text: str, is_bad: bool) -> None:
        self._say(self._session.mask.text(text), is_bad)

    def _keep(self, memory: Memory) -> None:
        files.write(paths.WATCH_SEEN, memory.dump(), mode=0o600)


def _is_run_under_way() -> bool:
    """A user who holds the lock without a run keeps nobody from looking."""
    holder = runs.find_holder()
    return holder is not None and not holder.user


@contextlib.contextmanager
def _alone() -> Iterator[bool]:
    """Whether no other look is under way: by a lock on the directory, so that no file is made for it."""
    try:
        descriptor = os.open(paths.STATE, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SetupError(f"{paths.STATE} can't be opened: {error.strerror}", "sudo vllm-https-setup repair") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)
