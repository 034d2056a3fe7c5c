"""Every command that the README shows is run here, as it stands there."""

import contextlib
import os
import pty
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Lab, Server, ServerSpec
from tests.lab.terminal import Terminal
from tests.lab.test_install import WHEELS, bring, wheels

pytestmark = pytest.mark.lab
__all__ = ["wheels"]  # a fixture: pytest finds it by its name here

CHECKOUT = Path(__file__).resolve().parents[2]
README = (CHECKOUT / "README.md").read_text()
# The suite that runs this file cannot run itself: .ci/run and ./test are what calls it.
CALLS_THIS = "./test"
FAST = "./test fast"
KEPT = ["./try --keep", "./try --enter", "./try --end"]


def shown() -> list[str]:
    """The commands of the README: its sh blocks, and what its text quotes as `./…`."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README, re.M | re.S)
    inline = re.findall(r"`(\./[^`]+)`", README)
    return list(dict.fromkeys([line for block in blocks for line in block.splitlines()] + inline))


ON_A_SERVER = [command for command in shown() if "vllm-https-setup" in command or command == "sudo ./install"]
WIZARD, DEMO = "sudo vllm-https-setup", "./try --demo"
TRIALS = [command for command in shown() if command.startswith("./try") and command not in (*KEPT, DEMO)]


@pytest.fixture(scope="module")
def server(lab: Lab, wheels: Path) -> Iterator[Server]:
    """A host with a checkout; the lab's package index is a directory, as pip's own configuration says."""
    server = lab.boot(ServerSpec(guide_packages=True))
    bring(server, wheels)
    server.put("/etc/pip.conf", f"[global]\nno-index = true\nfind-links = {WHEELS}\n".encode())
    text = f"version: 1\ntls:\n  mode: internal\ncaddy: {{key_fingerprint: {lab.key_fingerprint}}}\n"
    server.put("/home/operator/checkout/answers.yaml", text.encode(), 0o600, "operator:operator")
    yield server
    server.discard()


def here(command: str, timeout: float = 600) -> str:
    """The command in the checkout; its output, where it ends with 0."""
    nothing = subprocess.DEVNULL
    done = subprocess.run(
        command, shell=True, cwd=CHECKOUT, stdin=nothing, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
    return done.stdout


def test_every_command_is_run_by_a_test() -> None:
    known = {*ON_A_SERVER, *TRIALS, *KEPT, DEMO, CALLS_THIS, FAST}
    assert WIZARD in ON_A_SERVER and DEMO in shown()
    assert [command for command in shown() if command not in known] == []
    assert "exec ./test" in (CHECKOUT / ".ci/run").read_text()
    test = [line.strip() for line in (CHECKOUT / "test").read_text().splitlines()]
    assert FAST in test, "the whole begins with the fast part: nothing else need run that"
    assert any("tests/lab" in line for line in test)


def test_commands_on_a_server_do_what_they_say(server: Server) -> None:
    for command in ON_A_SERVER:
        if command == WIZARD:
            with Terminal(server, command) as terminal:
                terminal.wait_for("Enter Begin").press("ctrl+q")
                # The lab's repository has a key of its own: a check blocks there, where no answer names it.
                assert terminal.end() in (0, 3)
            continue
        done = server.ssh(f"cd checkout; {command}", check=False, timeout=300)
        assert done.code == 0, f"{command}: {done}"


def test_demo_opens_in_any_terminal_and_is_left_by_its_key() -> None:
    child, master = pty.fork()
    if child == 0:
        os.chdir(CHECKOUT)
        os.execvpe("./try", DEMO.split(), {**os.environ, "TERM": "xterm-256color"})
    shown_by, asked = b"", False
    with contextlib.suppress(OSError):
        while data := os.read(master, 65536):
            shown_by += data
            if b"Begin" in shown_by and not asked:
                asked = True
                os.write(master, b"\x11")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert b"nothing was changed" in shown_by


@pytest.mark.parametrize("command", TRIALS)
def test_trial_ends_with_a_proven_endpoint(command: str) -> None:
    said = here(command)
    assert "401 without the key, 200 with it" in said
    assert "✗" not in said


def test_kept_server_can_be_entered_and_ended() -> None:
    keep, enter, end = KEPT
    try:
        assert "The server stays up" in here(keep)
        assert here(f"{enter} hostname").strip() == "gpu-01"
    finally:
        assert here(end).strip() == "ended"
