"""The person who administers a host: logs in over SSH, types the program's commands, and reads what it kept."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lab.lab import Lab
from tests.lab.machine import Result
from tests.lab.server import Server
from tests.lab.space import Deadline

Document = dict[str, Any]
Event = dict[str, Any]

ANSWERS = "/home/operator/answers.yaml"
RUNS = "/var/lib/vllm-https-setup/runs"
RUN_UNIT = "vllm-https-setup-run.service"


class Operator:
    """One person on one host. Commands run through sudo, as typed; the host's files are read from outside of it."""

    def __init__(self, lab: Lab, server: Server) -> None:
        self.lab = lab
        self.server = server
        self.answer()

    def answer(self, **sections: Mapping[str, Any]) -> None:
        """Write the answers file: the least that this lab needs, and these sections' keys."""
        answers: dict[str, Any] = {
            "version": 1,
            "tls": {"mode": "internal"},
            "caddy": {"key_fingerprint": self.lab.key_fingerprint},
        }
        for name, section in sections.items():
            answers[name] = {**answers.get(name, {}), **section}
        self.server.put(ANSWERS, json.dumps(answers, indent=1).encode(), 0o600, "operator:operator")

    def say(self, words: str, *, timeout: float = 180) -> Result:
        """The command typed with sudo, to its end, whatever its exit code."""
        return self.server.ssh(f"sudo vllm-https-setup {words}", check=False, timeout=timeout)

    def ask(self, words: str, *, timeout: float = 180) -> Document:
        """The same with --json: its document, whose exit code is the command's."""
        result = self.say(f"{words} --json", timeout=timeout)
        try:
            document: Document = json.loads(result.stdout)
        except ValueError:
            raise AssertionError(f"no document: {result}") from None
        assert document["exit_code"] == result.code
        return document

    def plan(self) -> Document:
        return self.ask("plan --answers answers.yaml")

    def apply(self) -> Document:
        return self.ask("apply --answers answers.yaml")

    def start(self, words: str = "apply --answers answers.yaml", *, tty: bool = False) -> "Typed":
        """The command typed and left running."""
        return Typed(self.server, words, tty=tty)

    def runs(self) -> list[str]:
        """The runs that are on disk, oldest first."""
        place = self._inside(RUNS)
        return sorted(entry.name for entry in place.iterdir()) if place.exists() else []

    def events(self, run: str = "") -> list[Event]:
        """The journal of a run, of the last one by default; what is not written to its end is left out."""
        known = self.runs()
        if not known:
            return []
        try:
            text = (self._inside(RUNS) / (run or known[-1]) / "journal.jsonl").read_text()
        except FileNotFoundError:
            return []
        lines = text[: text.rfind("\n") + 1].splitlines()
        return [json.loads(line) for line in lines if line]

    def wait_for(self, sign: Callable[[Event], bool], *, timeout: float = 60, pause: float = 0.002) -> Event:
        """The first event of a run, not on disk when this is called, that is so. Looks 500 times a second."""
        known = set(self.runs())
        return self.wait_after(known, sign, timeout=timeout, pause=pause)

    def wait_after(
        self, known: set[str], sign: Callable[[Event], bool], *, timeout: float = 60, pause: float = 0.002
    ) -> Event:
        """The first such event of a run that is not among the known ones."""
        until = Deadline("an event of the run", timeout)
        seen = 0
        while True:
            new = [run for run in self.runs() if run not in known]
            events = self.events(new[-1]) if new else []
            for event in events[seen:]:
                if sign(event):
                    return event
            seen = len(events)
            assert not events or events[-1]["event"] != "end", f"the run ended without it: {events[-1]}"
            until.tick(pause)

    def run_process(self) -> int:
        """The process that applies, as the machine numbers it; 0 where none runs."""
        leader = self.server.leader
        group = Path(f"/proc/{leader}/root/sys/fs/cgroup/system.slice/{RUN_UNIT}/cgroup.procs")
        try:
            pids = {int(line) for line in group.read_text().split()}
        except OSError:
            return 0
        return next((pid for pid in sorted(pids) if _parent(pid) == leader), 0)

    def kill_run(self) -> None:
        """SIGKILL to the process that applies, at once."""
        pid = self.run_process()
        assert pid, "no run is under way"
        os.kill(pid, signal.SIGKILL)

    def wait_until_idle(self, timeout: float = 30) -> None:
        """Wait for the end of the run's unit: systemd ends what the killed process left in it."""
        until = Deadline("the end of the run's unit", timeout)
        while self.server.run(["systemctl", "is-active", RUN_UNIT], check=False).stdout.strip() not in (
            "inactive",
            "failed",
            "unknown",
        ):
            until.tick(0.05)

    def file(self, path: str) -> bytes | None:
        """The content of a file on the host, read from outside; None where there is none."""
        try:
            return self._inside(path).read_bytes()
        except FileNotFoundError:
            return None

    def _inside(self, path: str) -> Path:
        return self.server.root / path.lstrip("/")


class Typed:
    """A command under way in a login of its own. As a context manager it ends that login on leaving."""

    def __init__(self, server: Server, words: str, *, tty: bool) -> None:
        self._process: subprocess.Popen[bytes] = server.ssh_popen(f"sudo vllm-https-setup {words}", tty=tty)

    def cut(self) -> None:
        """The SSH client dies, and with it the connection."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def end(self, timeout: float = 180) -> Result:
        """Its exit code and what it said."""
        try:
            out, err = self._process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.cut()
            raise
        return Result(self._process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.cut()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None and not stream.closed:
                stream.close()
        self._process.wait()


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def is_action(event: Event, *parts: str) -> bool:
    """Whether the event is the beginning of an action in whose words all of these are."""
    if event["event"] != "action_began":
        return False
    (words,) = in_words([event["change"]])
    return all(part in words for part in parts)


def began(*parts: str) -> Callable[[Event], bool]:
    """A sign for wait_for: such an action has begun."""
    return lambda event: is_action(event, *parts)


def changes_of(document: Document) -> list[Document]:
    """All changes of a report, in order."""
    return [change for step in document["steps"] for change in step["changes"]]


def done(events: list[Event]) -> list[Document]:
    """All changes that a run began, in order."""
    return [event["change"] for event in events if event["event"] == "action_began"]


def interrupted(events: list[Event]) -> Document | None:
    """The action that a journal shows begun and not ended."""
    last = [event for event in events if event["event"] in ("action_began", "action_ended")][-1:]
    return last[0]["change"] if last and last[0]["event"] == "action_began" else None


def in_words(changes: list[Document]) -> list[str]:
    """Each change in a few words, as a test names it."""
    words = [[change["kind"], *change.get("argv", ()), change.get("path"), change.get("for")] for change in changes]
    return [" ".join(word for word in one if word) for one in words]


def comparable(changes: list[Document]) -> list[Document]:
    """What a plan promises before Caddy is there: all but the old side of the file that its package brings."""
    return [{**one, "diff": ""} if one.get("path") == "/etc/caddy/Caddyfile" else one for one in changes]


def troubles(document: Document) -> list[str]:
    """What went wrong, in the document's own words; none where all is well."""
    found = [f"error: {error['message']}" for error in document["errors"]]
    found += [f"warning: {warning}" for warning in document["warnings"]]
    for step in document["steps"]:
        found += [
            f"{finding['key']}: {finding['summary']}"
            for finding in step["findings"]
            if finding["level"] in ("drift", "blocked") or finding["key"].endswith(".failed")
        ]
    return found + [f"{row['id']}: {row['detail']}" for row in document["tests"] if row["ok"] is not True]


def findings(document: Document, level: str) -> dict[str, str]:
    """The findings of a level: key, and summary with remedy."""
    return {
        one["key"]: f"{one['summary']} {one['remedy'] or ''}".strip()
        for step in document["steps"]
        for one in step["findings"]
        if one["level"] == level
    }


def rows(document: Document) -> dict[str, bool | None]:
    """The final test's verdicts."""
    return {row["id"]: row["ok"] for row in document["tests"]}


def restarted(times: int) -> list[str]:
    """Exposed, and started as often within the ten seconds in which systemd allows five starts."""
    words = f"""sed -i 's/--host 127.0.0.1/--host 0.0.0.0/' /opt/vllm/start-vllm.sh; systemctl reset-failed vllm
for one in $(seq {times}); do systemctl restart vllm; done
until ss -Hltn | grep -q 0.0.0.0:8000; do sleep 0.05; done"""
    return ["sh", "-ec", words]
