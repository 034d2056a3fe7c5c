"""What plain says of the whole: the welcome, the keys, changes in short, and what they interrupt in all."""

from __future__ import annotations

from collections.abc import Sequence

from .report import Document

WELCOME = (
    "This server's vLLM becomes an HTTPS endpoint that is proved to work. {steps} steps look at the server and say "
    "what they would change; nothing is changed before you say so, at the end. Then vLLM restarts once: some minutes "
    "without an API, while the model loads again. SSH stays open."
)
KEYS = "At every question: Enter takes what stands in brackets, ? explains, b goes back, q quits."
REVIEW_HELP = (
    "Once it is started the run goes on by itself, whatever happens to this connection. It does what is said above and "
    "nothing else. Saved answers are for: sudo vllm-https-setup apply --answers F. The script does the same with a "
    "shell alone.\n"
    "Enter = start. s = save the answers, x = export as a script, b = back, q = quit without a change."
)
INTERRUPTS = {
    "restart vllm": "vLLM restarts: some minutes without an API",
    "restart caddy": "Caddy restarts: some seconds without an API",
    "reload caddy": "Caddy is reloaded: requests go on",
    "none": "interrupts nothing",
}
KINDS = {
    "run": ("command", "commands"),
    "write": ("file written", "files written"),
    "remove": ("file removed", "files removed"),
    "wait": ("wait", "waits"),
}


def times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def in_short(changes: Sequence[Document]) -> str:
    """How many changes of each kind, and the worst of what they interrupt."""
    counts = {kind: sum(change["kind"] == kind for change in changes) for kind in KINDS}
    named = [f"{count} {KINDS[kind][count > 1]}" for kind, count in counts.items() if count]
    impacts = {change["impact"] for change in changes}
    worst = next(words for impact, words in INTERRUPTS.items() if impact in impacts)
    return f"{', '.join(named)}; {worst}"


def total_impact(changes: Sequence[Document]) -> str:
    """One line: what the whole plan interrupts, and how it is undone."""
    impacts = [change["impact"] for change in changes]
    if restarts := impacts.count("restart vllm"):
        worst = f"vLLM restarts {times(restarts)}: some minutes without an API, while the model loads again"
    else:
        worst = next(words for impact, words in INTERRUPTS.items() if impact in impacts)
    return f"In all: {worst}; SSH stays open. It can be undone: sudo vllm-https-setup rollback"
