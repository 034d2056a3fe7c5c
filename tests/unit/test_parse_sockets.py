"""Sockets as ss shows them: recorded, and what a process that names itself as it likes can do to that."""

from pathlib import Path

import pytest

from wizard.mask import Mask
from wizard.model import Output, SetupError
from wizard.parse.sockets import parse_listeners, parse_peers
from wizard.system import RealMachine

RECORDED = Path(__file__).parents[1] / "recorded" / "ss"
LISTENERS = (RECORDED / "iproute2-6.1.0-listeners.txt").read_text()


def test_every_listener_of_a_server_is_read() -> None:
    assert set(parse_listeners(LISTENERS)) == {
        ("127.0.0.1", 8000, 498),
        ("127.0.0.1", 2019, 664),
        ("127.0.0.5", 9004, 723),
        ("0.0.0.0", 9006, 723),
        ("0.0.0.0", 22, 41),
        ("0.0.0.0", 80, 220),
        ("::", 9002, 723),
        ("::", 9001, 723),
        ("::ffff:127.0.0.1", 9005, 723),
        ("::", 22, 41),
        ("::", 80, 220),
        ("::", 443, 664),
        ("fe80::2455:6dff:fe5c:d395", 9003, 723),
    }


def test_listener_is_no_other_process_than_the_one_that_has_it_whatever_that_calls_itself() -> None:
    assert ',pid=1,fd=3",pid=723' in LISTENERS
    assert 1 not in {pid for _, _, pid in parse_listeners(LISTENERS)}


@pytest.mark.parametrize("name", ["a\nb", "a\nLISTEN 0 1", "a\rb", '"))', "((", ""])
def test_listener_is_seen_whatever_its_process_calls_itself(name: str) -> None:
    line = f'LISTEN 0      128    0.0.0.0:9001   0.0.0.0:* users:(("{name}",pid=9,fd=3))   \n'
    found = parse_listeners(f'{line}LISTEN 0 128 [::]:22 [::]:* users:(("sshd",pid=41,fd=4))\n')
    assert [one[:2] for one in found] == [("0.0.0.0", 9001), ("::", 22)]


def test_listener_of_the_kernel_itself_has_no_process() -> None:
    assert parse_listeners("LISTEN 0      64           *:2049        *:*          \n") == (("::", 2049, 0),)


def test_far_ends_are_read() -> None:
    text = "0      0      10.91.1.2:22 10.91.0.9:39246\n0 68 [fd91::1:2]:22 [fd91::9]:5022 \n"
    assert parse_peers(text) == ("10.91.0.9:39246", "[fd91::9]:5022")
    assert parse_peers("") == ()


def test_no_answer_is_not_taken_for_no_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = RealMachine(Mask())
    monkeypatch.setattr(machine, "command", lambda argv, **more: Output(127, "", "ss: command not found"))
    for ask in (machine.listeners, lambda: machine.connections([22])):
        with pytest.raises(SetupError, match="ss: command not found"):
            ask()
    assert machine.connections([]) == ()
