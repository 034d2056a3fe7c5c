"""The first page: what will happen, what it interrupts, how to stop and how to take it back."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.content import Content

from wizard.draft import LEAST

from .block import Block
from .drawing import fit, stacked, wrapped
from .page import Key, Page
from .step import StepPage

ROOMS = (
    ("Preflight", "looks at vLLM, its key, the GPU, SSH and the ports"),
    ("Firewall", "SSH stays open, HTTPS opens, everything else closes"),
    ("Bind", "vLLM listens to this server alone, behind the proxy"),
    ("Caddy", "the web server, from its makers' package repository"),
    ("TLS", "this server's own certificate, a public one, yours"),
    ("Harden", "limits, bans, confined services; only if you ask"),
)
FACTS = (
    ("Interrupts", "the API once, while the model is loaded again"),
    ("Stop", "ctrl+q at any time; your answers are kept"),
    ("Undo", "sudo vllm-https-setup rollback"),
)


class WelcomePage(Page):
    at = "welcome"
    title = "From an open vLLM port to a proven HTTPS endpoint"
    about = "Nothing is changed before you have seen the whole plan."
    help = (
        "Enter goes on, Esc goes back, and Enter alone leads to the end with good defaults: a certificate of this "
        "server's own. What a page needs of you is on that page, and every key that does something is on the last "
        "line.\n\n"
        "Until you press Start at the review, this program only looks. It can be left at any time: ctrl+q."
    )

    def compose(self) -> ComposeResult:
        yield from self.head()
        yield Block(self._rooms)
        yield Block(self._facts, classes="gap")
        yield Block(self._looked, classes="gap", id="looked")

    def _rooms(self, width: int, height: int) -> Content:
        return stacked(Content.assemble((f"{name:<11}", "bold"), fit(text, width - 11)) for name, text in ROOMS)

    def _facts(self, width: int, height: int) -> Content:
        lines = []
        for name, text in FACTS:
            first, *rest = wrapped(text, width - 11)
            lines += [Content.assemble((f"{name:<11}", "bold"), first)]
            lines += [Content.assemble(" " * 11, line) for line in rest]
        return stacked(lines)

    def _looked(self, width: int, height: int) -> Content:
        wizard = self.wizard
        if wizard.opening is None or wizard.is_looking or wizard.seen is None:
            return Content.styled("This server is being looked at …", "dim")
        blocked = wizard.seen.blocked
        if blocked is not None:
            return Content.assemble(("✗ ", "bold $error"), f"{blocked.step.title}: something stands in the way.")
        lines = [Content.assemble(("✓ ", "$success"), "This server can be secured.")]
        if wizard.draft.data != LEAST:
            lines.append(Content("  Your answers of last time are filled in."))
        return stacked(lines)

    def seen(self) -> None:
        self.redraw(looked=self._looked)

    def keys(self) -> list[Key]:
        return [Key(("enter",), "Enter", "Begin", self.forward, main=True)]

    def forward(self) -> None:
        self.wizard.walk_to(StepPage("preflight"))
