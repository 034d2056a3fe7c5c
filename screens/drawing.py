"""Findings, plans and rows as lines of text: pure functions of a document and a width."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from textual.content import Content

from wizard.mask import strip_control
from wizard.progress import change_words
from wizard.report import SIGNS

Document = dict[str, Any]
Line = Content

DEMO = " DEMO: nothing is changed "
STYLES = {"ok": "$success", "info": "dim", "warn": "bold $warning", "drift": "$accent", "blocked": "bold $error"}
ROW_STYLES = {True: ("✓", "$success"), False: ("✗", "bold $error"), None: ("!", "bold $warning")}
IMPACTS = {
    "none": "interrupts nothing",
    "reload caddy": "interrupts nothing",
    "restart caddy": "Caddy restarts: a second off",
    "restart vllm": "vLLM restarts: no API meanwhile",
}


def clean(text: str) -> str:
    """Text of the machine as one that cannot drive the terminal."""
    return strip_control(text).expandtabs(4)


def fit(text: str, width: int) -> str:
    """One line of at most this width; what is cut off is shown by …"""
    text = " ".join(clean(text).split("\n"))
    return text if len(text) <= width else text[: max(width - 1, 0)].rstrip() + "…"


def wrapped(text: str, width: int, style: str = "", indent: str = "") -> Iterator[Line]:
    for line in folded(text, width - len(indent)):
        yield Content.assemble(indent, (line, style))


def folded(text: str, width: int) -> list[str]:
    """The text on lines of this width; a command's hyphens are no place to break it."""
    paragraphs = clean(text).split("\n")
    wrap = textwrap.TextWrapper(max(width, 10), break_on_hyphens=False)
    return [line for paragraph in paragraphs for line in wrap.wrap(paragraph) or [""]]


def stacked(lines: Iterable[Line], height: int | None = None, more: str = "") -> Content:
    """The lines below each other; where they are more than fit, the last one says how many are left out."""
    shown = list(lines)
    if height is not None and len(shown) > height > 0:
        left = len(shown) - height + 1
        shown = [*shown[: height - 1], Content.styled(f"… {left} more lines{more}", "dim")]
    return Content("\n").join(shown)


ROOM = 12
# What a change is made safe by; not what is wrong with a server.
MECHANICS = ("firewall.safety", "firewall.proof")


def finding_lines(findings: Sequence[Document], width: int, room: int = ROOM) -> Iterator[Line]:
    """What was found: what blocks with its remedy. The rest is cut to a line each where there is no room for more,
    and where there is no room for that, what is in order is only counted."""
    whole = [line for finding in findings for line in finding_in_full(finding, width)]
    if len(whole) <= room:
        yield from whole
        return
    loud = [line for finding in findings if finding["level"] != "ok" for line in finding_short(finding, width)]
    quiet = sorted((one for one in findings if one["level"] == "ok"), key=lambda one: ".dns_" not in one["key"])
    left = max(room - len(loud) - 1, 0)
    counted = quiet[left:] if len(quiet) > left + 1 else []
    for finding in findings:
        if finding not in counted:
            yield from finding_short(finding, width)
    if counted:
        yield Content.assemble(sign_of(counted[0]), f"{len(counted)} more in order", ("  (d)", "dim"))


def finding_short(finding: Document, width: int) -> Iterator[Line]:
    if finding["level"] == "blocked":
        yield from finding_in_full(finding, width)
    else:
        yield Content.assemble(sign_of(finding), fit(finding["summary"], width - 2))


def sign_of(finding: Document) -> tuple[str, str]:
    return f"{SIGNS[finding['level']]} ", STYLES[finding["level"]]


def finding_in_full(finding: Document, width: int) -> Iterator[Line]:
    blocks = finding["level"] == "blocked"
    first, *rest = folded(finding["summary"], width - 2)
    style = "bold" if blocks else ""
    yield Content.assemble(sign_of(finding), (first, style))
    yield from (Content.assemble("  ", (line, style)) for line in rest)
    if blocks:
        yield from wrapped(finding["remedy"] or "", width, indent="  ")
        evidence = finding["evidence"]
        if evidence.get("found") and "wanted" in evidence:
            both = f"found: {in_words(evidence['found'])}   wanted: {in_words(evidence['wanted']) or 'no such record'}"
            yield from wrapped(both, width, "dim", "  ")


def detail_lines(findings: Sequence[Document], width: int) -> Iterator[Line]:
    """Everything that is known of each finding: in full, with remedy, key and evidence."""
    for finding in findings:
        yield from finding_in_full(finding, width)
        if finding["remedy"] and finding["level"] != "blocked":
            yield from wrapped(finding["remedy"], width, indent="  ")
        yield Content.styled(f"  {finding['level']} · {finding['key']}", "dim")
        for name, value in finding["evidence"].items():
            yield from wrapped(f"{name}: {in_words(value)}", width, "dim", "  ")
        yield Content("")


def in_words(value: Any) -> str:
    match value:
        case dict():
            return "; ".join(f"{key}: {in_words(item)}" for key, item in value.items())
        case list() | tuple():
            return ", ".join(in_words(item) for item in value)
        case _:
            return str(value)


def change_lines(
    changes: Sequence[Document], width: int, *, diffs: bool = True, context: bool = True
) -> Iterator[Line]:
    """The commands and the diffs of a plan; the diffs with the lines around what changes, or without."""
    for change in changes:
        interrupts = change["impact"] not in ("none", "reload caddy")
        words = fit(change_words(change), width - (len(change["impact"]) + 3 if interrupts else 0))
        yield Content.assemble(words, (f"  [{change['impact']}]", "bold $warning") if interrupts else "")
        for line in change.get("diff", "").splitlines()[2:] if diffs else ():
            if line[:1] in "+-" or (context and not line.startswith("@@")):
                yield Content.styled(f"    {fit(line, width - 4)}", diff_style(line))


def diff_style(line: str) -> str:
    return {"+": "$success", "-": "$error"}.get(line[:1], "dim")


def plan_lines(changes: Sequence[Document], width: int, height: int) -> Iterator[Line]:
    """What a step will do, as much of it as there is room for: with diffs where all of them fit."""
    if not changes:
        yield Content.styled("Nothing to do here.", "dim")
        return
    worst = worst_impact(changes)
    if height < 3:
        yield Content.assemble(("Will do", "bold"), f"   {counted(changes)}: w shows them")
        return
    yield Content.assemble(("Will do", "bold"), (f"   {IMPACTS[worst]}", "" if worst == "restart vllm" else "dim"))
    for whole in (change_lines(changes, width), change_lines(changes, width, context=False)):
        lines = list(whole)
        if len(lines) < height:
            yield from lines
            return
    yield from change_lines(changes, width, diffs=False)


def counted(changes: Sequence[Document]) -> str:
    return f"{len(changes)} action{'' if len(changes) == 1 else 's'}"


def worst_impact(changes: Sequence[Document]) -> str:
    return max((change["impact"] for change in changes), key=list(IMPACTS).index, default="none")


def row_lines(rows: Sequence[Document], width: int, room: int = ROOM) -> Iterator[Line]:
    """The final test's rows; a failed one with what it means."""
    name_width = 18
    whole = [folded(row["detail"], width - name_width - 2) for row in rows]
    is_room = sum(map(len, whole)) <= room
    for row, lines in zip(rows, whole, strict=True):
        sign, style = ROW_STYLES[row["ok"]]
        shown = lines if is_room or not row["ok"] else [fit(row["detail"], width - name_width - 2)]
        yield Content.assemble((f"{sign} ", style), f"{row['id']:<{name_width}}", shown[0])
        yield from (Content.assemble(" " * (name_width + 2), line) for line in shown[1:])
        if row["ok"] is not True and row.get("remedy"):
            yield from wrapped(row["remedy"], width, indent="    ")
