"""What a look has found as metrics: a text file for node_exporter's textfile collector."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from .model import Level
from .server import FileState

HEADING = "# Written by vllm-https-setup watch\n"
PREFIX = "vllm_https_setup"
VALUES = {True: "1", False: "0", None: "NaN"}


def is_anothers(state: FileState | None) -> bool:
    """Whether what is there was not written from here."""
    return state is not None and (state.kind != "file" or bool(state.content and not state.text.startswith(HEADING)))


def exposition(document: dict[str, Any], not_after: datetime | None, now: float) -> str:
    """The file's text (Prometheus' text format 0.0.4) for a document of `status`."""
    return HEADING + "".join(f"{line}\n" for line in _lines(document, not_after, now))


def _lines(document: dict[str, Any], not_after: datetime | None, now: float) -> Iterator[str]:
    yield from _gauge("up", "1 where nothing has failed and nothing has drifted", [("", str(int(not _code(document))))])
    rows = [(f'{{id="{_escaped(row["id"])}"}}', VALUES[row["ok"]]) for row in document["tests"]]
    yield from _gauge("test_ok", "A row of the final test: 1 passed, 0 failed, NaN could not be tried", rows)
    levels = [finding["level"] for step in document["steps"] for finding in step["findings"]]
    counts = [(f'{{level="{level}"}}', str(levels.count(level))) for level in Level]
    yield from _gauge("findings", "Findings by their level", counts)
    if not_after is not None:
        ends = [("", f"{not_after.timestamp():.0f}")]
        yield from _gauge("certificate_not_after_timestamp_seconds", "When the certificate ends (Unix time)", ends)
    yield from _gauge("last_run_timestamp_seconds", "When this was looked at last (Unix time)", [("", f"{now:.0f}")])


def _code(document: dict[str, Any]) -> int:
    return int(document["exit_code"])


def _gauge(name: str, help_text: str, samples: list[tuple[str, str]]) -> Iterator[str]:
    yield f"# HELP {PREFIX}_{name} {help_text}"
    yield f"# TYPE {PREFIX}_{name} gauge"
    for labels, value in samples:
        yield f"{PREFIX}_{name}{labels} {value}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
