"""A Report as a document (the contract's JSON), and that document as text. Masked once, where the document is made."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from collections.abc import Iterator
from typing import Any

from .mask import Mask, without_control
from .model import Finding, Report, StepReport, TestRow

SCHEMA_VERSION = 1
REMEDY_WIDTH = 60
SIGNS = {"ok": "✓", "info": "·", "warn": "!", "drift": "+", "blocked": "✗"}
# What these do goes the other way round.
UNDOING = ("rollback", "uninstall")
# What is shown as a plan, and asked about, before it is done.
ASKING = (*UNDOING, "key", "restore")
COLOURS = {"✓": "32", "!": "33", "+": "36", "✗": "31"}
Document = dict[str, Any]


def document_of(report: Report, mask: Mask) -> Document:
    """The document that the contract describes, without a secret in it."""
    document: Document = {
        "schema_version": SCHEMA_VERSION,
        "command": report.command,
        "run": report.run,
        "continued": report.continued,
        "exit_code": report.exit_code,
        "changed": report.changed,
        "failed": report.failed,
        "steps": [step_document(step) for step in report.steps],
        "tests": [row_document(row) for row in report.tests],
        "endpoint": None if report.endpoint is None else vars(report.endpoint),
        "errors": list(report.errors),
        "warnings": list(report.warnings),
        "log_path": report.log_path,
        "duration_s": round(report.duration_s, 3),
    }
    masked = mask.value(document)
    assert isinstance(masked, dict)
    return masked


def step_document(step: StepReport) -> Document:
    """A step of the document. Not masked yet."""
    return {
        "id": step.id,
        "title": step.title,
        "status": str(step.status),
        "duration_s": round(step.duration_s, 3),
        "findings": [_finding(finding) for finding in step.findings],
        "changes": [change.as_json() for change in step.changes],
    }


def row_document(row: TestRow) -> Document:
    """A row of the final test in the document. Not masked yet."""
    remedy = None if row.ok else row.remedy
    return {"id": row.id, "ok": row.ok, "detail": row.detail, "ms": row.ms, "remedy": remedy}


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "key": finding.key,
        "level": str(finding.level),
        "summary": finding.summary,
        "remedy": finding.remedy,
        "evidence": finding.evidence,
    }


def as_json(document: Document) -> str:
    """The document as it is printed: what JSON allows and a terminal obeys (C1, DEL) is written by its number."""
    text = json.dumps(document, indent=1, ensure_ascii=False)
    return re.sub("[\x7f-\x9f]", lambda one: f"\\u{ord(one[0]):04x}", text)


class Text:
    """A document as lines for a person; colour only where it is asked for, and never alone."""

    def __init__(self, *, colour: bool = False) -> None:
        self._colour = colour

    def _sign(self, sign: str) -> str:
        code = COLOURS.get(sign)
        return f"\x1b[{code}m{sign}\x1b[0m" if self._colour and code else sign

    def lines(self, document: Document) -> Iterator[str]:
        """What the document says. Nothing that it quotes can drive the terminal."""
        return self._lines(without_control(document))

    def _lines(self, document: Document) -> Iterator[str]:
        for warning in document["warnings"]:
            yield f"{self._sign('!')} {warning}"
        for error in document["errors"]:
            yield f"{self._sign('✗')} {error['message']}"
            if error["expected"]:
                yield f"      {error['expected']}"
        yield from self.steps(document)
        if document["tests"]:
            yield "Final test"
            for row in document["tests"]:
                yield from self.row(row)
        yield ""
        yield from self.closing(document)

    def steps(self, document: Document) -> Iterator[str]:
        """What is taken back is shown in its order, the last step first, and only where there is something."""
        whole = document["command"] in ("plan", "status")
        undoes = document["command"] in UNDOING
        planned = document["command"] == "plan" or (document["command"] in ASKING and document["run"] is None)
        for step in reversed(document["steps"]) if undoes else document["steps"]:
            hidden = step["status"] == "skipped" or (undoes and not step["changes"])
            if not hidden and step["id"] != "https_test":
                yield from self.step(step, whole=whole, planned=planned)

    def step(self, step: Document, *, whole: bool, planned: bool) -> Iterator[str]:
        """The step and its findings; after a run, which has told what it did, only what is not in order."""
        words = {
            "ok": "in order",
            "changed": "has drifted" if whole and not planned else "would be changed" if planned else "changed",
            "failed": "FAILED",
            "blocked": "BLOCKED",
        }
        yield f"{step['title']}: {words[step['status']]}"
        for finding in step["findings"]:
            if whole or finding["level"] not in ("ok", "info"):
                yield f"  {self._sign(SIGNS[finding['level']])} {finding['summary']}"
                if finding["remedy"]:
                    yield f"      {finding['remedy']}"
        for change in step["changes"] if planned else ():
            yield from self.change(change)

    def change(self, change: Document) -> Iterator[str]:
        interrupts = "" if change["impact"] == "none" else f"   [{change['impact']}]"
        match change["kind"]:
            case "run":
                yield f"    $ {shlex.join(change['argv'])}{interrupts}"
            case "wait":
                yield f"    … {change['for']} (at most {change['timeout_s']:.0f} s){interrupts}"
            case kind:
                yield f"    {kind} {change['path']}{interrupts}"
                if kind == "write":
                    yield from (f"      {line}" for line in change["diff"].splitlines()[2:])

    def row(self, row: Document) -> Iterator[str]:
        sign = {True: "✓", False: "✗", None: "!"}[row["ok"]]
        yield f"  {self._sign(sign)} {row['id']:<17} {row['detail']}"
        for paragraph in (row.get("remedy") or "").splitlines():
            lines = textwrap.wrap(paragraph, REMEDY_WIDTH, break_on_hyphens=False, break_long_words=False)
            yield from (f"      {line}" for line in lines)

    def closing(self, document: Document) -> Iterator[str]:
        """The last lines: what it comes to, and what to type next."""
        code, command = document["exit_code"], document["command"]
        done = self._undone if command in UNDOING else self._done
        blocks = any(step["status"] == "blocked" for step in document["steps"])
        said = DECIDE if command == "status" and blocks else _CLOSING.get((command, code)) or _CLOSING.get(("", code))
        yield said or done(document)
        if document["continued"]:
            yield f"This completed run {document['continued']}, which had been cut off."
        endpoint = document["endpoint"]
        if endpoint and endpoint["base_url"] and document["tests"] and code in (0, 5):
            yield f"Endpoint  {endpoint['base_url']}"
            if endpoint["model"]:
                yield f"Model     {endpoint['model']}"
            if endpoint["ca_file"]:
                yield f"Root      {endpoint['ca_file']}: copy it to clients; curl --cacert root.crt …"
        if document["log_path"]:
            yield f"Log       {document['log_path']}"

    def _done(self, document: Document) -> str:
        changes = sum(len(step["changes"]) for step in document["steps"])
        match document["command"]:
            case "plan":
                return f"{changes} actions. Nothing was changed." if changes else "Nothing to do."
            case "status" | "test":
                return "All is as it should be."
            case "key" | "restore" if changes and document["run"] is None:
                return f"{changes} actions. Nothing was changed."
            case "backup":
                return "Done: the archive is written."
            case _:
                return "Done." if document["changed"] else "Nothing to do: all is as it should be."

    def _undone(self, document: Document) -> str:
        changes = sum(len(step["changes"]) for step in document["steps"])
        command = document["command"]
        if document["run"] is None:
            return f"{changes} actions. Nothing was changed." if changes else "Nothing to do: nothing of it is here."
        if command == "rollback":
            return "Done: the run is taken back."
        rest = ", but for what is named above" if document["warnings"] else ""
        return f"Done: nothing of what it set up is left{rest}. The program itself: sudo ./install --remove"


DECIDE = "Not as it should be. What is marked ✗ is yours to put right first; then: sudo vllm-https-setup repair"
_CLOSING = {
    ("", 1): "A step failed. What was done is in the log; the same command goes on from here.",
    ("status", 1): "Not as it should be. What is marked + is put right by: sudo vllm-https-setup repair",
    ("", 3): "A check blocks. Nothing was changed.",
    ("", 5): "A row of the final test failed.",
}
