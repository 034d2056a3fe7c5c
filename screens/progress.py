"""The run as it goes: steps, the command of the moment with its last words, and the firewall's proof."""

from __future__ import annotations

import math
from collections.abc import Iterator

from textual.app import ComposeResult
from textual.content import Content

from wizard.progress import OPEN_ANOTHER

from .block import Block
from .dialogs import Ask
from .drawing import fit, stacked, wrapped
from .page import Key, Page
from .run_state import RunState
from .way import RAIL, STEPS

STATUS = {
    "running": ("▸", "bold", ""),
    "ok": ("✓", "$success", "in order"),
    "changed": ("✓", "$success", "done"),
    "failed": ("✗", "bold $error", "failed"),
    "blocked": ("✗", "bold $error", "stands in the way"),
}


class ProgressPage(Page):
    at = "work"
    title = "Working"
    about = "You can close this connection: the work goes on, and sudo vllm-https-setup shows it again."
    help = (
        "The work is done by a service of its own on this server, not by this terminal: a lost connection stops "
        "nothing.\n\n"
        "s asks it to stop: it finishes the command that it is at, and leaves what is done. The next start finds what "
        "is left and completes it. l shows everything that has been run, with its output."
    )

    def compose(self) -> ComposeResult:
        yield from self.head()
        yield Block(self._steps, id="steps")
        yield Block(self._proof, id="proof")
        yield Block(self._moment, classes="fill", id="moment")

    @property
    def run_state(self) -> RunState:
        return self.wizard.run_state

    def note(self) -> str:
        return self.run_state.elapsed(self.wizard.now())

    def _steps(self, width: int, height: int) -> Content:
        return stacked(self._each_step(width))

    def _each_step(self, width: int) -> Iterator[Content]:
        state = self.run_state
        names = dict(RAIL)
        for name in STEPS:
            line = state.steps.get(name)
            if line is None:
                yield Content.styled(f"· {names[name]}", "dim")
                continue
            sign, style, words = STATUS.get(line.status, ("·", "dim", line.status))
            text = (line.summary or words) if words else state.waiting or state.command
            took = f"{line.seconds:.1f} s" if line.seconds >= 0.05 else ""
            text = fit(text, width - 14 - len(took))
            space = max(width - 13 - len(text) - len(took), 1)
            yield Content.assemble((f"{sign} ", style), f"{line.title:<11}", text, " " * space, (took, "dim"))

    def _proof(self, width: int, height: int) -> Content:
        """Only where the firewall is not proved at once: how long is left, and the two ways to confirm."""
        state = self.run_state
        if not state.is_unproved:
            return Content("")
        left = max(math.ceil(state.waits_until - self.wizard.now()), 0)
        return stacked(
            [
                Content(""),
                *wrapped(f"{OPEN_ANOTHER}. {left} s", width, "bold $warning"),
                *wrapped(f"Not proved yet: {state.said.partition(f'. {OPEN_ANOTHER}')[0]}.", width),
                *wrapped("Without it the firewall is put back as it was. If you know that SSH works: c", width, "dim"),
            ]
        )

    def _moment(self, width: int, height: int) -> Content:
        state = self.run_state
        if not state.command:
            return Content("")
        lines = [Content(""), Content.styled(fit(state.command, width), "bold")]
        room = height - len(lines) - 1
        if state.said and not state.is_unproved:
            lines.append(Content(f"  {fit(state.said, width - 2)}"))
            room -= 1
        tail = list(state.tail)[-room:] if room > 0 else []
        lines += [Content.styled(f"  {fit(line, width - 2)}", "dim") for line in tail]
        return stacked(lines, height)

    def ticked(self) -> None:
        self.redraw(proof=self._proof)

    def seen(self) -> None:
        self.redraw(steps=self._steps, proof=self._proof, moment=self._moment)

    def keys(self) -> list[Key]:
        keys = [
            Key(("l",), "l", "Log", self.wizard.show_log),
            Key(("s",), "s", "Stop", self.ask_to_stop),
        ]
        if self.run_state.is_unproved:
            keys.insert(0, Key(("c",), "c", "SSH works", self.confirm, main=True))
        return keys

    def confirm(self) -> None:
        def sure() -> None:
            self.wizard.desk.order(self.wizard.gateway.confirm, alone=False)

        text = (
            "Say yes only if a new SSH session really opens: this one stays up in any case. From then on the firewall "
            "no longer puts itself back."
        )
        self.app.push_screen(Ask("Does SSH let you in?", text, sure))

    def ask_to_stop(self) -> None:
        wizard = self.wizard
        run = wizard.run_id
        if run is None:
            return
        state = self.run_state
        bound = state.steps.get("bind")
        local = " vLLM is bound to this server already: until it is completed the API is local only." if bound else ""
        text = (
            "The command of the moment is finished first; then nothing more is done. What is done stays, and the next "
            f"start completes it; sudo vllm-https-setup rollback takes it back.{local}"
        )

        def stop() -> None:
            wizard.desk.order(lambda: wizard.gateway.stop(run), alone=False)

        self.app.push_screen(Ask("Stop after this command?", text, stop))
