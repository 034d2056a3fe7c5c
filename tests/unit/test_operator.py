"""Where the operator sits: the connection of the sshd above us, whatever else that sshd forwards."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from wizard import system
from wizard.server import Operator

OUTSIDE = "198.51.100.20"


def connection(status: str, local: tuple[str, int], far: tuple[str, int] | None = None) -> SimpleNamespace:
    ends = [SimpleNamespace(ip=one[0], port=one[1]) if one else () for one in (local, far)]
    return SimpleNamespace(status=status, laddr=ends[0], raddr=ends[1])


LISTENS = connection("LISTEN", ("0.0.0.0", 22))
OWN = connection("ESTABLISHED", ("203.0.113.7", 22), (OUTSIDE, 51000))
# ssh -L: sshd connects to a database; ssh -R: sshd listens, and somebody came.
FORWARDS = connection("ESTABLISHED", ("203.0.113.7", 40001), ("10.0.0.5", 5432))
LENDS = connection("LISTEN", ("0.0.0.0", 2022))
LENT = connection("ESTABLISHED", ("203.0.113.7", 2022), ("192.0.2.66", 52000))


class Process:
    def __init__(self, name: str, parent: Process | None, said: str = "", *connections: Any) -> None:
        self._name, self._parent, self._said, self._connections = name, parent, said, connections

    def name(self) -> str:
        return self._name

    def parent(self) -> Process | None:
        return self._parent

    def environ(self) -> dict[str, str]:
        return {"SSH_CONNECTION": self._said} if self._said else {}

    def net_connections(self, kind: str) -> list[Any]:
        return list(self._connections)


def found(monkeypatch: pytest.MonkeyPatch, *connections: Any, said: str = "", above: str = "sshd") -> Operator | None:
    master = Process("sshd", Process("systemd", None), "", LISTENS)
    sshd = Process(above, master, "", *connections)
    sudo = Process("sudo", Process("bash", sshd, said))
    monkeypatch.setattr(psutil, "Process", lambda: Process("python3", sudo))
    monkeypatch.setattr(psutil, "net_connections", lambda kind: [LISTENS, *connections])
    return system.find_operator()


def test_connection_of_sshd_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, OWN) == Operator(OUTSIDE, 22)
    assert found(monkeypatch, OWN, above="sshd-session") == Operator(OUTSIDE, 22)


def test_what_sshd_forwards_is_not_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, FORWARDS, LENDS, LENT, OWN) == Operator(OUTSIDE, 22)
    assert found(monkeypatch, FORWARDS, LENDS, LENT) is None


def test_connection_that_the_login_says_is_taken_where_sshd_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "192.0.2.66 52000 203.0.113.7 2022"
    assert found(monkeypatch, LENDS, OWN, LENT, said=said) == Operator("192.0.2.66", 2022)


def test_what_the_environment_says_counts_where_no_sshd_is_above(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, said="192.0.2.8 50000 203.0.113.7 2222", above="tmux") == Operator("192.0.2.8", 2222)
    assert found(monkeypatch, above="tmux") is None


def test_connection_that_is_stale_gives_way_to_the_one_that_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(monkeypatch, OWN, said="192.0.2.8 50000 203.0.113.7 22") == Operator(OUTSIDE, 22)
