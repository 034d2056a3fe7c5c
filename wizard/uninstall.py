"""`uninstall`: all that is ours taken back, from owned.json; and at the end what this program has kept about it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from . import checked, files, paths
from .actions import show
from .answers_file import AnswersError
from .caddyfile import CERTIFICATES
from .endpoint import find_hosts
from .engine import Look, StepResult
from .model import Action, Change, Remove, Run, SetupError, Status, Write
from .owned import Owned, OwnedFile
from .reversal import Done, Reversal, Wish, plan_reversal, read_backup
from .steps import STEPS

if TYPE_CHECKING:
    from .answers import Answers

CADDY, FIRST = "caddy", "preflight"
KEPT = (paths.ETC, paths.RUNS, paths.LOG, paths.STATE, paths.RUNTIME)
ISSUED = "/var/lib/caddy/.local/share/caddy/certificates"


@dataclass(frozen=True)
class Uninstall:
    """What is to be done. Where `purge` is asked for, Caddy's certificates for this endpoint go, too."""

    reversal: Reversal
    kept: tuple[str, ...]

    def results(self, look: Look) -> tuple[StepResult, ...]:
        """As a plan shows it: the directories go last, and so in the step that everything began with."""
        return with_directories(self.reversal.results(look), self.kept, look)


def answers_or_defaults() -> tuple[bytes, Answers]:
    """The saved answers; where there are none that can be read, the defaults: nothing here depends on them."""
    state = files.read(paths.ANSWERS)
    try:
        if state is not None and state.kind == "file":
            return state.content, checked.load_saved(state.content)
    except AnswersError:
        pass
    return b"", checked.defaults()


def plan_uninstall(look: Look, wish: Wish) -> Uninstall:
    """The actions that bring back what was before the first run, as far as nobody has changed it since."""
    done, lost = read_done(look.owned)
    reversal = plan_reversal(done, look, wish)
    by_id = {step.id: actions for step, actions in reversal.steps}
    commands = [one.argv for one in by_id.get(CADDY, ()) if isinstance(one, Run)]
    purged = any(argv[:2] == ("apt-get", "purge") and "caddy" in argv for argv in commands)
    by_id[CADDY] = (*by_id.get(CADDY, ()), *_remains(look, wish, purged=purged))
    steps = tuple((step, by_id[step.id]) for step in reversed(STEPS) if by_id.get(step.id))
    left = (*lost, *reversal.left)
    kept = tuple(path for path in KEPT if look.server.read(path) is not None)
    return Uninstall(replace(reversal, steps=steps, left=left), kept)


def read_done(owned: Owned) -> tuple[tuple[Done, ...], tuple[str, ...]]:
    """What is ours, as if one run had done it; and of what the state before is not known any more."""
    done: list[Done] = []
    lost: list[str] = []
    for path, one in owned.files.items():
        try:
            before = None if one.backup is None else read_backup(one.backup)
        except SetupError as error:
            lost.append(f"{path} stays as it is: {error.message}")
            continue
        done.append(Done(one.step or FIRST, _touch(path, one), before))
    for known in owned.commands:
        # vLLM that a run has started serves since: nobody wants it stopped with all else.
        if known.argv[:2] == ("systemctl", "start"):
            continue
        undo = tuple(Run(argv, "an earlier run made it so") for argv in known.undo)
        done.append(Done(known.step or FIRST, Run(known.argv, "", undo=undo), None))
    return tuple(done), tuple(lost)


def _touch(path: str, one: OwnedFile) -> Action:
    hashes = [known for known in (one.sha256, one.writing, one.was) if known]
    if one.sha256 is None and one.writing is None:
        return Remove(path, "", then=one.then)
    return Write(path, " ".join(hashes).encode(), "", then=one.then, keep_attributes=one.edits)


def _remains(look: Look, wish: Wish, *, purged: bool) -> Iterator[Action]:
    """What our site has left beside its configuration; nothing where the package takes all of it along."""
    if purged:
        return
    directory, name = posixpath.split(paths.ACCESS_LOG)
    stem = posixpath.splitext(name)[0]
    logs = [f"{directory}/{one}" for one in look.server.names(directory) if one.startswith(stem)]
    if logs:
        yield Run(("rm", "-f", "--", *sorted(logs)), "the access log of our site")
    if look.server.read(CERTIFICATES) is not None:
        yield Run(("find", CERTIFICATES, "-maxdepth", "0", "-empty", "-delete"), "the directory of the copies")
    if not wish.keep_data and (issued := _issued(look)):
        yield Run(("rm", "-rf", "--", *issued), "the certificates that Caddy got for this endpoint")


def _issued(look: Look) -> tuple[str, ...]:
    more = {one.host or "" for one in look.answers.vllm.more}
    hosts = {*find_hosts(look), look.answers.tls.domain or "", *more} - {""}
    found = [f"{ISSUED}/{ca}/{host}" for ca in look.server.names(ISSUED) for host in sorted(hosts)]
    return tuple(path for path in found if look.server.read(path) is not None)


# ── the end ──


def with_directories(results: tuple[StepResult, ...], kept: tuple[str, ...], look: Look) -> tuple[StepResult, ...]:
    """The results, with what is done when the run itself has ended."""
    if not kept:
        return results
    change: Change = show(removal(kept), None, look.mask)
    return tuple(
        replace(one, status=Status.CHANGED, changes=(*one.changes, change)) if one.step.id == FIRST else one
        for one in results
    )


def removal(kept: tuple[str, ...]) -> Run:
    return Run(("rm", "-rf", "--", *kept), "the answers, runs and logs that this program has kept")
