"""A person who goes through the wizard's screens: where the pages are, and how to get from one to the next."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from tests.lab import File, ServerSpec
from tests.lab.operator import Operator
from tests.lab.space import Deadline
from tests.lab.terminal import Mark, Terminal, processor_seconds
from tests.lab.test_apply import curl
from tests.lab.test_secrets import MORE, TELLING, found_in

WIZARD = "sudo vllm-https-setup"
GIVEN = f"{WIZARD} --answers answers.yaml"
BEFORE = ("Preflight", "Firewall", "Bind", "Caddy", "TLS", "Harden", "Review")
CRASHES = "/var/log/vllm-https-setup/wizard.log"
DRAFT = "/var/lib/vllm-https-setup/draft.yaml"
# Ubuntu 24.04's sudo gives what it runs a pty of its own; the base's own does not yet.
AS_ON_UBUNTU = {"/etc/sudoers.d/ubuntu": File(b"Defaults use_pty\n", 0o440)}
# And a vLLM that tells its key to the system's journal, which a run reads from.
SCRIPT = File(TELLING.format(spec=ServerSpec()).encode(), 0o755, 990, 990)
UBUNTU = ServerSpec(files={**AS_ON_UBUNTU, "/opt/vllm/start-vllm.sh": SCRIPT}, vllm_environment=MORE)


@contextmanager
def at_terminal(
    operator: Operator, command: str = GIVEN, *, answers: Mapping[bytes, bytes] | None = None
) -> Iterator[Terminal]:
    """The operator's login, 80×24. Whatever is done there: no key in the terminal, in no disguise, and no crash."""
    with Terminal(operator.server, command, answers=answers) as terminal:
        yield terminal
        assert not found_in(bytes(terminal.bytes)), "the API key came to the terminal"
        assert terminal.emulator.unknown == {}
    assert (operator.file(CRASHES) or b"").decode() == ""


def is_at_prompt(text: str) -> bool:
    """A shell waits for a command. What is typed before that, sudo throws away."""
    return re.search(r"^operator@\S+\$$", text, re.M) is not None


def is_at(page: str) -> Callable[[str], bool]:
    """The rail points to this page, and all that it looks for has been found; the review can be agreed to."""
    signs = [rf"^ ▸ {page}\b", *(["Enter Start"] if page == "Review" else [])]
    unlike = r"checking …|being looked at"
    return lambda text: all(re.search(sign, text, re.M) for sign in signs) and not re.search(unlike, text)


def begin(terminal: Terminal) -> None:
    """The first page, and the look that goes on meanwhile. What stands in the way is shown where something does."""
    terminal.wait_for(lambda text: "This server can be secured" in text or "stands in the way" in text, 30)
    if "stands in the way" in terminal.text:
        while "then check again" not in terminal.text:
            terminal.press("enter")
            terminal.wait_still()
        raise AssertionError(f"something stands in the way{terminal.shown()}")


def go_on(terminal: Terminal, page: str, timeout: float = 30) -> Mark:
    """Enter leads to this page; the moment before it was pressed."""
    mark = terminal.press("enter")
    terminal.wait_for(is_at(page), timeout)
    return mark


def walk_to(terminal: Terminal, page: str) -> None:
    """From the first page to this one by Enter alone."""
    begin(terminal)
    for name in BEFORE[: BEFORE.index(page) + 1]:
        go_on(terminal, name)


def walk_to_the_end(terminal: Terminal, timeout: float = 90) -> None:
    """From the running set-up to the end, by Enter alone."""
    terminal.wait_for("Enter Continue", timeout)
    terminal.press("enter")
    terminal.wait_for("Enter Finish")
    terminal.press("enter")


def program_of(terminal: Terminal) -> int:
    """The wizard's own process, as the machine numbers it."""
    found = [pid for pid, words in terminal.processes().items() if re.match(r"\S*python\S* .*vllm-https-setup", words)]
    assert found, f"no wizard among {terminal.processes()}"
    return found[-1]


def wait_until_gone(terminal: Terminal, timeout: float = 10) -> None:
    """Nothing of this login is left on the far side."""
    until = Deadline("the end of all that this login started", timeout)
    while left := terminal.processes():
        with suppress(TimeoutError):
            until.tick(0.05)
            continue
        busy = {words: processor_seconds(pid) for pid, words in left.items()}
        raise AssertionError(f"still there, with so many seconds of processor time: {busy}")


def assert_served(operator: Operator) -> None:
    """A client elsewhere gets in with the key alone, and to nothing else; the old port is closed."""
    server = operator.server
    assert curl(operator, server.address, "/v1/models")[0] == 401
    code, body = curl(operator, server.address, "/v1/models", key=True)
    assert (code, json.loads(body)["data"][0]["id"]) == (200, "phi-4-mini")
    assert curl(operator, server.address, "/metrics", key=True)[0] == 404
    assert operator.lab.outside.tcp(server.address, 8000, 0.5) == "filtered"
