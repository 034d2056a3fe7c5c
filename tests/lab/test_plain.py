"""The wizard line by line: for terminals that can do no more, from the first question to a served endpoint."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab import Acme, Lab, ServerSpec, walker
from tests.lab.operator import Operator, troubles
from tests.lab.site import CA_FILE, CHAIN, DOMAIN, KEY, Site, proof
from tests.lab.terminal import Terminal
from tests.lab.test_secrets import found_in
from tests.lab.walker import AS_ON_UBUNTU, GIVEN, UBUNTU, WIZARD, wait_until_gone

pytestmark = pytest.mark.lab

Attend = Callable[[ServerSpec], Operator]
QUICK = ServerSpec(files=AS_ON_UBUNTU, guide_packages=True)
BEGUN = "goes on by itself, whatever happens to this connection"


class Talk:
    """What is said in lines: one question and one answer after the other."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self._heard = 0

    @property
    def said(self) -> str:
        """All of it as one line: where lines are broken is for their width to say."""
        return " ".join(self.terminal.printed.split())

    def hear(self, words: str, timeout: float = 60) -> None:
        """Wait until this has been said."""
        self.terminal.wait_until(lambda: words in self.said, f"to hear {words!r}", timeout)

    def question(self) -> str:
        """The end of the question that is asked now, or "" where the work has begun."""

        def is_asked() -> bool:
            return len(self.said) > self._heard and self.terminal.printed.endswith(": ")

        self.terminal.wait_until(lambda: BEGUN in self.said or is_asked(), "a question", 60)
        return "" if BEGUN in self.said else self.said[-80:]

    def answer(self, *answers: str) -> None:
        """Each at a question of its own; "" takes what stands in brackets."""
        for words in answers:
            assert self.question(), "the work has begun, and nothing is asked any more"
            self._heard = len(self.said)
            self.terminal.type_in(f"{words}\r")

    def enter_until(self, words: str) -> None:
        """Enter alone until this is asked."""
        while words not in self.question():
            self.answer("")

    def enter_until_the_work_begins(self) -> None:
        while self.question():
            self.answer("")


@contextmanager
def talking(operator: Operator, command: str, *, term: str = "xterm-256color") -> Iterator[Talk]:
    """A login that talks in lines: no control sequence comes to it, and never the key."""
    with Terminal(operator.server, command, term=term) as terminal:
        yield Talk(terminal)
        assert b"\x1b" not in terminal.bytes
        assert not found_in(bytes(terminal.bytes))


# ── a dumb terminal ──


@pytest.fixture(scope="module")
def dumb(lab: Lab, program: Path) -> Iterator[tuple[Operator, str]]:
    """The operator of a host that was set up on a dumb terminal by Enter alone, and all that was said."""
    server = lab.boot(replace(UBUNTU, guide_packages=True, layers=(program,)))
    operator = Operator(lab, server)
    with talking(operator, GIVEN, term="dumb") as talk:
        talk.enter_until_the_work_begins()
        code = talk.terminal.end(120)
        print(f"{len(talk.terminal.bytes)} bytes")
    yield operator, f"{talk.terminal.printed}\nended with {code}"
    server.discard()


def test_dumb_terminal_is_asked_in_lines_up_to_a_served_endpoint(dumb: tuple[Operator, str]) -> None:
    operator, said = dumb
    assert said.endswith("ended with 0")
    for words in ("Preflight", "Firewall", "Bind", "Caddy", "TLS", "Review", f"https://{operator.server.address}/v1"):
        assert words in said
    walker.assert_served(operator)


def test_server_that_is_set_up_is_said_to_be_in_order_line_by_line(dumb: tuple[Operator, str]) -> None:
    operator, _ = dumb
    runs = operator.runs()
    with talking(operator, WIZARD, term="dumb") as talk:
        talk.hear("All is in order: nothing is to be done.")
        talk.hear("net.open")
        talk.answer("")
        assert talk.terminal.end(20) == 0
    assert operator.runs() == runs


def test_what_drifted_is_said_and_repaired_line_by_line(dumb: tuple[Operator, str]) -> None:
    operator, _ = dumb
    operator.server.run(["ufw", "disable"])
    with talking(operator, f"{WIZARD} --plain") as talk:
        talk.hear("not as its saved answers say")
        talk.hear("ufw is off")
        talk.enter_until_the_work_begins()
        assert talk.terminal.end(60) == 0
    document = operator.ask("status")
    assert (troubles(document), document["exit_code"]) == ([], 0)


@pytest.mark.parametrize("command", [WIZARD, f"{WIZARD} </dev/null", f"{WIZARD} --plain", f"{GIVEN} 2>&1 | cat"])
def test_without_a_terminal_one_sentence_says_what_to_use(dumb: tuple[Operator, str], command: str) -> None:
    operator, _ = dumb
    said = operator.server.ssh(f"set -o pipefail; {command}", check=False)
    assert said.code == 2
    assert "there is no terminal here: sudo vllm-https-setup apply --answers F" in said.stdout + said.stderr
    assert "\x1b" not in said.stdout + said.stderr


def test_terminal_whose_output_goes_elsewhere_is_none(dumb: tuple[Operator, str]) -> None:
    operator, _ = dumb
    with Terminal(operator.server, f"set -o pipefail; {WIZARD} | cat") as terminal:
        assert terminal.end(20) == 2
        assert "apply --answers F" in terminal.printed
        assert b"\x1b" not in terminal.bytes


# ── the two modes that need answers ──


@pytest.fixture
def site(lab: Lab, acme: Acme, attend: Attend) -> Iterator[Site]:
    found = Site(lab, acme, attend(QUICK))
    found.name()
    yield found


def set_up(site: Site, mode: str, *answers: str) -> str:
    """Enter up to the question of the mode, these answers, and Enter again to the end; all that was said."""
    with talking(site.operator, f"{GIVEN} --plain") as talk:
        talk.enter_until("A number [1]")
        talk.answer(mode, *answers)
        talk.enter_until_the_work_begins()
        talk.hear(f"https://{DOMAIN}/v1")
        assert talk.terminal.end(60) == 0
    return talk.said


def test_acme_is_set_up_line_by_line(site: Site) -> None:
    site.server.put(CA_FILE, site.acme.ca_file)
    directory = {"acme_directory": site.acme.directory, "acme_ca_file": CA_FILE}
    site.operator.answer(tls={**directory, "public_addresses": [site.server.address]})
    set_up(site, "2", DOMAIN, "ops@example.test", "", "")
    assert site.seen_from_outside("acme") == proof("acme")
    assert site.operator.file("/etc/vllm-https-setup/root.crt") is None


def test_certificate_of_ones_own_is_set_up_line_by_line_and_wrong_ones_are_said(site: Site) -> None:
    leaf = site.lab.certificates.issue(DOMAIN)
    site.trust(site.lab.certificates.root)
    site.server.put(CHAIN, leaf.chain)
    site.server.put(KEY, leaf.key, 0o600)
    said = set_up(site, "3", "not a name", DOMAIN, "chain.pem", CHAIN, KEY)
    assert "tls.domain: " in said and "tls.certificate: " in said
    assert site.seen_from_outside("custom") == proof("custom")


def test_lost_connection_leaves_nothing_running_and_keeps_the_answers(site: Site) -> None:
    with talking(site.operator, f"{GIVEN} --plain") as talk:
        talk.enter_until("A number [1]")
        talk.answer("3", DOMAIN)
        talk.question()
        talk.terminal.cut()
        wait_until_gone(talk.terminal)
    with talking(site.operator, f"{WIZARD} --plain") as talk:
        talk.enter_until("A number [3]")
        talk.answer("")
        assert DOMAIN in talk.question()
        talk.answer("q")
        assert talk.terminal.end(20) == 0
    assert site.operator.runs() == []
