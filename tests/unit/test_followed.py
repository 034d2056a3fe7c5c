"""Who follows a run: what it reads when the run takes its own journal away."""

from __future__ import annotations

import shutil
from pathlib import Path

from wizard import journal
from wizard.mask import Mask


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
