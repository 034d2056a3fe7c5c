"""A plan as a shell script that a person can read, run, and keep: its reasons are the comments.

It needs nothing of ours. What it can't do itself (prove the firewall by a packet) it asks a person for. No secret is
in it: a file that is edited is edited by place, and a private file is copied from where it is.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import json
import shlex
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from . import __version__, paths
from .actions import compose
from .answers import dump
from .apt import LOCK_WAIT_S
from .engine import Look, NoWatcher, Step, StepResult
from .harden.sandbox import FILE as CONFINES
from .mask import Mask, strip_control
from .model import Action, Change, Finding, Impact, Level, Remove, Run, SetupError, Wait, Write
from .parse.apt import LOCK_WORDS
from .render import render
from .safety import Proof
from .server import FileState, read_through
from .starting import LIMIT_S, REFUSED, started_by

WIDTH = 118
ABSENT = "absent"
HEADING = """\
It changes what its comments say, and is right for this server alone, as it was when this was written: it stops before
its first change where a file is not as it was then. What it replaces is kept below /var/backups.

Where the firewall is changed, it asks you to log in a second time: unconfirmed, the firewall goes back by itself, and
the script ends. Where nobody is there to be asked: sudo CONFIRM=yes sh FILE.

Unlike `sudo vllm-https-setup apply` it keeps no record: `rollback` and `uninstall` know nothing of what it did.
Afterwards `sudo vllm-https-setup plan --answers F` finds nothing to do."""


@dataclass(frozen=True)
class Planned:
    """An action of a plan, and the file that it meets when its turn comes."""

    action: Action
    before: FileState | None


@dataclass
class Notes(NoWatcher):
    """Follows the walk of a plan: each step's actions, with the files that they meet."""

    planned: dict[str, list[Planned]] = field(default_factory=dict)

    def action_began(self, step: Step, action: Action, change: Change, before: FileState | None) -> None:
        self.planned.setdefault(step.id, []).append(Planned(action, before))


def write_script(look: Look, results: Sequence[StepResult], notes: Notes, base_url: str, at: str) -> str:
    """The script. `look` is at the server itself, before the plan. Raises SetupError where none can be written."""
    if look.server.read(paths.UNCONFIRMED) is not None:
        raise SetupError(
            "an earlier change of the firewall was never proved: a script can't go on from there",
            "complete it first: sudo vllm-https-setup apply",
        )
    writer = Writer(look)
    parts = [writer.expectations(notes), writer.hidden(notes), writer.steps(results, notes), writer.saved_answers()]
    body = "\n".join(line for part in parts for line in part)
    host = next(iter(look.server.host_names()), "")
    script = render(
        "export.sh.j2",
        heading="\n".join(_heading(host, at, look.mask)),
        program=paths.NAME,
        host=shlex.quote(host),
        timer=paths.REVERT_TIMER,
        marker=paths.UNCONFIRMED,
        lock_wait_s=LOCK_WAIT_S,
        refused=shlex.quote(REFUSED),
        refused_s=LIMIT_S,
        lock_words=shlex.quote(LOCK_WORDS),
        uses=writer.uses,
        body=body,
        closing="\n".join(_closing(writer, base_url)),
    )
    if look.mask.text(script) != script:
        raise SetupError(
            "the script would show a secret: a value of vLLM's env file is in a file that the plan writes",
            "use sudo vllm-https-setup apply, which shows it to nobody",
        )
    return script


def _heading(host: str, at: str, mask: Mask) -> Iterator[str]:
    yield from comment(f"Written by vllm-https-setup {__version__} for {host}, {at}. Run it there: sudo sh FILE", mask)
    for paragraph in HEADING.split("\n\n"):
        yield "#"
        yield from comment(paragraph, mask)


def _closing(writer: Writer, base_url: str) -> Iterator[str]:
    if not writer.uses:
        yield "say 'nothing to do: all is as it should be'"
        return
    if "firewall_confirmed" in writer.uses and "confine" not in writer.uses:
        yield f"rmdir {paths.STATE} 2>/dev/null || true"
    yield f"say {shlex.quote(f'done: {base_url}')}"
    yield "doing='the end'"


def comment(text: str, mask: Mask, indent: str = "") -> Iterator[str]:
    """Text as comment lines, masked; whatever the machine said in it stays inside the comment."""
    plain = " ".join(strip_control(mask.text(text)).split())
    yield from textwrap.wrap(
        plain,
        WIDTH,
        initial_indent=f"# {indent}",
        subsequent_indent=f"# {indent}",
        break_long_words=False,
        break_on_hyphens=False,
    ) or ["#"]


def quote(text: str) -> str:
    """The text as one word of the shell; an apostrophe alone does not make it unreadable."""
    return f'"{text}"' if "'" in text and not set(text) & set('"$`\\') else shlex.quote(text)


def command(words: Iterable[str]) -> str:
    """The words as shell text, on as many lines as they need."""
    lines, line = [], ""
    for word in words:
        quoted = quote(word)
        if line and len(line) + len(quoted) + 3 > WIDTH:
            lines.append(line)
            line = f"    {quoted}"
        else:
            line = f"{line} {quoted}" if line else quoted
    return " \\\n".join([*lines, line])


def digest(content: bytes | None) -> str:
    return ABSENT if content is None else hashlib.sha256(content).hexdigest()[:16]


def here(head: str, content: bytes) -> list[str]:
    """The command with this content as its standard input: as text where that is text, else as base64."""
    text = content.decode("utf-8", "replace")
    readable = text.endswith("\n") and strip_control(text) == text and "�" not in text
    if not content:
        return [f"{head} </dev/null"]
    if not readable:
        head, text = f"{head} base64 -d", base64.encodebytes(content).decode()
    lines = text[:-1].split("\n")
    end = "END"
    while end in lines:
        end += "_"
    return [f"{head} <<'{end}'", *lines, end]


def splice(old: bytes, new: bytes) -> list[tuple[int, int, bytes]]:
    """The edits that make `new` of `old`: from byte, to byte, and what comes there instead."""
    olds, news = old.splitlines(keepends=True), new.splitlines(keepends=True)
    edits = []
    for tag, first, last, start, stop in difflib.SequenceMatcher(None, olds, news, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        before, after = b"".join(olds[first:last]), b"".join(news[start:stop])
        head = _common(before, after)
        tail = _common(before[head:][::-1], after[head:][::-1])
        at = len(b"".join(olds[:first]))
        edits.append((at + head, at + len(before) - tail, after[head : len(after) - tail]))
    return edits


def _common(one: bytes, two: bytes) -> int:
    """How many bytes both begin with."""
    pairs = enumerate(zip(one, two, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(two)))


def pieces(edits: Sequence[tuple[int, int, bytes]]) -> Iterator[str]:
    """The commands that put the new content together from the file's own bytes and the inserted ones."""
    place = 0
    for start, stop, inserted in edits:
        if start > place:
            yield f'tail -c +{place + 1} "$file" | head -c {start - place}'
        if inserted:
            text = inserted.decode("utf-8", "replace")
            # Control characters may be lost on the way through a shell; NUL always is.
            readable = strip_control(text) == text and text.encode() == inserted
            encoded = f"echo {base64.b64encode(inserted).decode()} | base64 -d"
            yield f"printf %s {shlex.quote(text)}" if readable else encoded
        place = stop
    yield f'tail -c +{place + 1} "$file"'


class Writer:
    """Turns actions into shell text, and remembers what each file has by then."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._mask = look.mask
        self.uses: set[str] = set()
        self._now: dict[str, bytes | None] = {}
        self._first: dict[str, bytes | None] = {}
        self._met: dict[str, bytes | None] = {}
        self._backs = 0

    # ── the frame ──

    def expectations(self, notes: Notes) -> Iterator[str]:
        """Each file that is changed has to be as it was: then, or at any moment of this script."""
        known: dict[str, list[str]] = {}
        for one in (planned for step in notes.planned.values() for planned in step):
            if not isinstance(one.action, Write | Remove):
                continue
            path = one.action.path
            found = self._look.server.read(path)
            if found is not None and found.kind != "file":
                raise SetupError(f"{path} is a {found.kind}, not a file", f"look at it: ls -l {path}")
            self._first.setdefault(path, found.content if found else None)
            after = one.action.content if isinstance(one.action, Write) else None
            met = one.before.content if one.before else None
            known.setdefault(path, []).extend(digest(content) for content in (self._first[path], met, after))
        if known:
            self.uses.add("still")
            yield from comment(
                "Nothing of this may have been changed since; what is here from an earlier try may.", self._mask
            )
        for path, digests in known.items():
            yield command(["still", path, *dict.fromkeys(digests)])

    def hidden(self, notes: Notes) -> Iterator[str]:
        """What confines a service hides our records from it, and by that a look knows that it counts: they must be
        there when the service starts."""
        planned = (one.action for step in notes.planned.values() for one in step)
        if any(isinstance(one, Write) and one.path.endswith(f".d/{CONFINES}") for one in planned):
            self.uses.add("confine")
            yield ""
            yield from comment(
                f"Services that are confined do not see {paths.STATE}: by that they are known.", self._mask
            )
            yield command(["install", "-d", "-m", "0755", paths.STATE])

    def steps(self, results: Sequence[StepResult], notes: Notes) -> Iterator[str]:
        for result in results:
            if not result.seen:
                continue
            yield ""
            yield ""
            yield f"# ── {result.step.title} ──"
            for finding in result.seen:
                yield from self._seen(finding)
            planned = notes.planned.get(result.step.id, [])
            begun: Finding | None = None
            for one in planned:
                why = next((known for known in result.seen if one.action in known.fix), begun)
                if why is not None and why is not begun:
                    yield ""
                    yield command(["say", f"{result.step.title}: {self._words(why.summary)}"])
                    begun = why
                yield from self.action(one.action, one.before)

    def saved_answers(self) -> Iterator[str]:
        """What the unit that loads a renewed certificate reads, in mode custom; else the answers are not kept."""
        if self._look.answers.tls.mode != "custom" or not self.uses:
            return
        why = f"the answers, for {paths.CERTIFICATE_SERVICE}: it runs `{paths.NAME} refresh`, which reads them"
        write = Write(paths.ANSWERS, dump(self._look.answers).encode(), why, mode=0o600)
        yield ""
        yield ""
        yield from self.action(write, self._look.server.read(paths.ANSWERS))

    def _words(self, text: str) -> str:
        return " ".join(strip_control(self._mask.text(text)).split())

    def _seen(self, finding: Finding) -> Iterator[str]:
        yield from comment(f"{finding.level}: {finding.summary}", self._mask)
        if finding.remedy and finding.level is Level.WARN:
            yield from comment(finding.remedy, self._mask, "    ")

    def _why(self, action: Action) -> Iterator[str]:
        interrupts = "" if action.impact is Impact.NONE else f" [{action.impact}]"
        yield from comment(f"{action.why}{interrupts}", self._mask)

    # ── the actions ──

    def action(self, action: Action, before: FileState | None) -> Iterator[str]:
        if isinstance(action, Write | Remove):
            self._met.setdefault(action.path, before.content if before else None)
        if not isinstance(action, Run | Wait):
            yield from self._why(action)
        match action:
            case Run():
                yield from self._run(action)
            case Write():
                yield from self._write(action, before)
                self._now[action.path] = action.content
            case Remove():
                if self._first.get(action.path) is not None:
                    self.uses.add("keep")
                    yield command(["keep", action.path])
                yield command(["rm", "-f", "--", action.path])
                self._now[action.path] = None
            case Wait():
                yield from self._wait(action)

    def _run(self, action: Run) -> Iterator[str]:
        words = list(action.argv)
        if action.environment:
            words = ["env", *(f"{name}={value}" for name, value in action.environment), *words]
        if action.retry is not None:
            self.uses.add("patiently")
            words = ["patiently", *words]
        if started_by(action.argv):
            self.uses.add("anew")
            words = ["anew", *words]
        self.uses.add("run")
        name = ""
        if action.otherwise:
            name, lines = self._fall_back(action.otherwise)
            yield from lines
        yield from self._why(action)
        if not name:
            yield command(words)
            return
        yield f"{command(words)} || {{"
        yield f"    {name}"
        yield f"    stop {quote('that failed: ' + self._words(shlex.join(action.argv)))}"
        yield "}"

    def _write(self, action: Write, before: FileState | None) -> Iterator[str]:
        if before is not None and before.kind != "file":
            raise SetupError(f"{action.path} is a {before.kind}, not a file", f"look at it: ls -l {action.path}")
        self.uses |= {"keep", "commit"}
        if action.keep_attributes and before is not None:
            yield from self._edit(action, before)
            return
        self.uses.add("stage")
        head = command(["stage", action.path, f"{action.mode:04o}", f"{action.owner}:{action.group}"])
        if action.private:
            yield f"{head} cat {shlex.quote(self._source(action))}"
        else:
            yield from here(head, action.content)
        if action.validate:
            words = [word.replace("{path}", "\0") for word in action.validate]
            yield command(words).replace("'\0'", '"$new"').replace("\0", '"$new"')
        yield "commit"

    def _edit(self, action: Write, before: FileState) -> Iterator[str]:
        """By place: what is not changed is never shown, for a launch script may have a secret beside."""
        self.uses.add("edit")
        edits = splice(before.content, action.content)
        for start, stop, inserted in edits:
            number = before.content.count(b"\n", 0, start) + 1
            old, new = (json.dumps(text.decode(errors="replace")) for text in (before.content[start:stop], inserted))
            said = f"{old} becomes {new}" if start < stop else f"{new} is put in"
            yield from comment(f"line {number}: {said}", self._mask, "    ")
        yield f'if [ "$(digest {shlex.quote(action.path)})" != {digest(action.content)} ]; then'
        yield f"    edit {shlex.quote(action.path)}"
        yield "    {"
        for piece in pieces(edits):
            yield f"        {piece}"
        yield '    } >"$new"'
        if action.validate:
            words = [word.replace("{path}", "\0") for word in action.validate]
            yield "    " + command(words).replace("'\0'", '"$new"').replace("\0", '"$new"')
        yield "    commit"
        yield "fi"

    def _source(self, action: Write) -> str:
        """Where a private file is copied from."""
        path = self._look.answers.tls.private_key
        state = read_through(self._look.server, path) if path else None
        if path is None or state is None or state.content != action.content:
            raise SetupError(
                f"{action.path} is private, and no file of this server has just that: a script can't make it",
                "use sudo vllm-https-setup apply",
            )
        return path

    def _wait(self, action: Wait) -> Iterator[str]:
        if not action.shell:
            raise SetupError(f"a script can't wait for this: {action.what}", "use sudo vllm-https-setup apply")
        self.uses |= {"await", action.shell.split()[0]}
        name = ""
        if action.otherwise:
            name, lines = self._fall_back(action.otherwise)
            yield from lines
        if not isinstance(action.until, Proof):
            yield from self._why(action)
        else:
            yield from comment("the proof is yours to make: see ask_for_confirmation above", self._mask)
            yield f"ask_for_confirmation {action.timeout_s:.0f}"
        what = self._words(action.what)
        yield f"await {action.timeout_s:.0f} {quote(what)} {action.shell} || {{"
        if name:
            # Late is not failed: where the action says so, what is only late is left as it is.
            yield f"    {name}" if action.fall_back_when_late else f"    [ $? = 124 ] || {name}"
        late = [f"  {self._words(action.late)}"] if action.late else []
        yield "    " + command(["stop", f"this did not come about: {what}", *late])
        yield "}"

    def _fall_back(self, otherwise: Sequence[Action]) -> tuple[str, list[str]]:
        """A function with what is to be done where the next command fails, as far as that goes; and its name."""
        self._backs += 1
        name, lines = f"back_{self._backs}", []
        now = dict(self._now)
        for action in compose([Finding("fallback", Level.DRIFT, "", fix=tuple(otherwise))]):
            if isinstance(action, Write) and self._met.get(action.path) == action.content:
                self.uses |= {"keep", "put_back"}
                lines += [*self._why(action), command(["put_back", action.path])]
            else:
                content = self._now.get(action.path) if isinstance(action, Write) else None
                met = FileState("file", content, 0o644, "root", "root") if content is not None else None
                lines += self.action(action, met)
        self._now = now
        # What a here-document has must stay where it is.
        indent = "" if any("<<'" in line for line in lines) else "    "
        return name, ["", f"{name}() {{", "    set +e", *(f"{indent}{line}" for line in lines), "}", ""]
