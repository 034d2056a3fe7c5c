"""The wizard over SSH: when its first frame is there, beside Textual's hello world in the same environment; and its
memory once it has looked."""

import time

from tests.bench import clock
from tests.bench.commands import CHECKOUT, PYTHON, STANDIN
from tests.bench.memory import peak
from tests.bench.row import Limit, Row, Rows, medians
from tests.lab import Lab, ServerSpec, ensure_program_layer
from tests.lab.server import Server
from tests.lab.terminal import Terminal
from tests.lab.walker import program_of

HELLO = "/opt/hello.py"
TEXT = b"""\
from textual.app import App, ComposeResult
from textual.widgets import Static

class Hello(App[None]):
    def compose(self) -> ComposeResult:
        yield Static("hello world")

Hello().run()
"""
LARGEST_MIB = 90


def first_frame(server: Server, command: str, text: str) -> float:
    """From the login's begin to the piece that brought this text, in seconds."""
    began = clock.begin()
    with Terminal(server, command) as terminal:
        terminal.wait_for(text)
        found = terminal.bytes.find(text.encode())
        return next(piece.at for piece in terminal.pieces if piece.end > found) - began


def memory(server: Server) -> float:
    """The most that the wizard's process had, its checks shown, in MiB."""
    with Terminal(server, "sudo vllm-https-setup") as terminal:
        terminal.wait_for("Enter")
        terminal.press("enter")
        time.sleep(5)  # the checks are made
        found = peak(program_of(terminal))
        assert found is not None, "the wizard has ended"
        return found


def measure(rounds: int) -> Rows:
    with Lab() as lab:
        server = lab.boot(ServerSpec(layers=(ensure_program_layer(CHECKOUT),), standin=STANDIN))
        server.put(HELLO, TEXT)
        found = medians(
            {
                "hello": lambda: first_frame(server, f"sudo {PYTHON} {HELLO}", "hello world"),
                "wizard": lambda: first_frame(server, "sudo vllm-https-setup", "vLLM"),
            },
            rounds,
        )
        largest = memory(server)
    return [
        Row("first frame, over SSH", found["wizard"], "Textual's hello world", found["hello"], 0.1, difference=True),
        Limit("memory of the wizard", largest, LARGEST_MIB),
    ]
