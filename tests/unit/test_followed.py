"""Who follows a run: what it reads when the run takes its own journal away, and how often it is told the same."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

from wizard import journal
from wizard.mask import Mask
from wizard.progress import Progress


def test_run_that_removes_its_journal_at_once_is_followed_to_its_end(own_paths: Path) -> None:
    run = journal.new_run_id(0)
    journal.prepare(run, {"command": "uninstall", "began": 0.0}, b"", {"steps": []})
    events = journal.Events(run)
    assert events.new() == []
    book = journal.Journal(run, Mask())
    shutil.rmtree(journal.run_directory(run))
    book.event("end", exit_code=0)
    book.close()
    assert [event["event"] for event in events.new()] == ["end"]
    events.close()


def test_what_is_waited_for_is_said_once() -> None:
    said = io.StringIO()
    progress = Progress(said)
    for text in ("locked by one", "locked by one", "locked by another"):
        progress.tell({"event": "command", "line": "apt-get"})
        progress.tell({"event": "progress", "text": text})
    progress.tell({"event": "action_began", "change": {"kind": "run", "argv": ["systemctl", "daemon-reload"]}})
    progress.tell({"event": "action_began", "change": {"kind": "run", "argv": ["systemctl", "daemon-reload"]}})
    progress.tell({"event": "progress", "text": "locked by another"})
    assert said.getvalue().splitlines() == [
        *("      locked by one", "      locked by another"),
        *("  $ systemctl daemon-reload", "  $ systemctl daemon-reload"),
        "      locked by another",
    ]
