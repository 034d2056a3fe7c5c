"""DNS questions over real sockets, to a small name server on loopback: every kind of answer, and none at all."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from wizard import resolve as door
from wizard.mask import Mask
from wizard.resolve import resolve
from wizard.server import DnsAnswer
from wizard.system import RealMachine

pytestmark = pytest.mark.allow_network("127.0.0.1")

LONG = tuple(f"198.51.100.{number}" for number in range(200))
RECORDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("llm.example.com.", "A"): ("203.0.113.8", "203.0.113.7"),
    ("llm.example.com.", "AAAA"): ("2001:DB8:0:0::7",),
    ("example.com.", "CAA"): ('0 issue "letsencrypt.org; validationmethods=http-01"',),
    ("example.com.", "NS"): ("NS1.dns.example.",),
    ("alias.example.com.", "CNAME"): ("LLM.example.com.",),
    ("loop.example.com.", "CNAME"): ("loop.example.com.",),
    ("long.example.com.", "A"): LONG,
}
FAILURES = {"broken.example.com.": dns.rcode.SERVFAIL, "refused.example.com.": dns.rcode.REFUSED}


@dataclass
class NameServer:
    """Answers over UDP and TCP at one port of loopback; `recursion` has each question's RD flag."""

    udp: socket.socket
    tcp: socket.socket
    recursion: list[bool] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    drops: int = 0
    has_authority: bool = True

    @property
    def port(self) -> int:
        return int(self.udp.getsockname()[1])

    def open(self) -> None:
        self.threads = [threading.Thread(target=serve) for serve in (self._serve_udp, self._serve_tcp)]
        for thread in self.threads:
            thread.start()

    def close(self) -> None:
        """Both threads see the end of their socket; a UDP socket that was never connected complains, and wakes."""
        for one in (self.udp, self.tcp):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        for one in (self.udp, self.tcp):
            one.close()

    def _serve_udp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                wire, sender = self.udp.recvfrom(4096)
                if not wire:
                    return
                answer = self.answer(wire, most=1232)
                if answer:
                    self.udp.sendto(answer, sender)

    def _serve_tcp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.tcp.accept()
                with connection, connection.makefile("rb") as stream:
                    (length,) = struct.unpack("!H", stream.read(2))
                    answer = self.answer(stream.read(length), most=65535)
                    connection.sendall(struct.pack("!H", len(answer)) + answer)

    def answer(self, wire: bytes, most: int) -> bytes:
        query = dns.message.from_wire(wire)
        name, kind = query.question[0].name, dns.rdatatype.to_text(query.question[0].rdtype)
        self.recursion.append(bool(query.flags & dns.flags.RD))
        if self.drops or name.to_text() == "silent.example.com.":
            self.drops = max(0, self.drops - 1)
            return b""
        response = dns.message.make_response(query, recursion_available=True)
        if self.has_authority:
            response.flags |= dns.flags.AA
        self._fill(response, name.to_text(), kind)
        try:
            return response.to_wire(max_size=most)
        except dns.exception.TooBig:
            response.answer.clear()
            response.flags |= dns.flags.TC
            return response.to_wire()

    def _fill(self, response: dns.message.Message, name: str, kind: str) -> None:
        if name in FAILURES:
            response.set_rcode(FAILURES[name])
        elif alias := RECORDS.get((name, "CNAME")):
            response.answer.append(dns.rrset.from_text(name, 300, "IN", "CNAME", *alias))
            if kind != "CNAME" and alias[0] != name:
                self._fill(response, alias[0].lower(), kind)
        elif values := RECORDS.get((name, kind)):
            response.answer.append(dns.rrset.from_text(name, 60, "IN", kind, *values))
        elif not any(known == name for known, _ in RECORDS):
            response.set_rcode(dns.rcode.NXDOMAIN)


def bind_both(tries: int = 20) -> tuple[socket.socket, socket.socket]:
    """UDP and TCP at the same port. The one that is free for UDP may be another's for TCP: then the next is tried."""
    while True:
        udp, tcp = socket.socket(type=socket.SOCK_DGRAM), socket.socket()
        try:
            udp.bind(("127.0.0.1", 0))
            tcp.bind(udp.getsockname())
            tcp.listen()
            return udp, tcp
        except OSError as error:
            udp.close()
            tcp.close()
            tries -= 1
            if error.errno != errno.EADDRINUSE or not tries:
                raise


@pytest.fixture
def name_server() -> Iterator[NameServer]:
    server = NameServer(*bind_both())
    server.open()
    yield server
    server.close()


@pytest.fixture(params=["resolver", "authority"])
def asked(request: pytest.FixtureRequest) -> str | None:
    """Both ways to ask."""
    return None if request.param == "resolver" else "127.0.0.1"


@pytest.fixture
def resolv_conf(tmp_path: Path) -> str:
    """The search domain must not be used."""
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 127.0.0.1\nsearch example.com\noptions timeout:30 attempts:5\n")
    return str(path)


class Asking:
    """What the tests ask with: one way to ask, and the server that is asked."""

    def __init__(self, server: NameServer, asked: str | None, resolv_conf: str) -> None:
        self.server, self.asked, self.resolv_conf = server, asked, resolv_conf

    def __call__(self, name: str, kind: str = "A") -> DnsAnswer:
        return resolve(name, kind, self.asked, port=self.server.port, resolv_conf=self.resolv_conf)


@pytest.fixture
def asking(name_server: NameServer, asked: str | None, resolv_conf: str) -> Asking:
    return Asking(name_server, asked, resolv_conf)


def test_addresses_come_sorted_with_their_ttl_and_who_was_asked(asking: Asking) -> None:
    answer = asking("llm.example.com")
    assert (answer.status, answer.values, answer.ttl) == ("ok", ("203.0.113.7", "203.0.113.8"), 60)
    assert answer.asked == (asking.asked or "recursive")


def test_addresses_at_the_end_of_an_alias_are_the_answer(asking: Asking) -> None:
    assert asking("alias.example.com").values == ("203.0.113.7", "203.0.113.8")
    assert asking("alias.example.com", "AAAA").values == ("2001:db8::7",)


def test_names_come_in_small_letters_without_the_final_dot(asking: Asking) -> None:
    assert asking("alias.example.com", "CNAME").values == ("llm.example.com",)
    assert asking("example.com", "NS").values == ("ns1.dns.example",)


def test_caa_record_comes_as_its_text(asking: Asking) -> None:
    assert asking("example.com", "CAA").values == ('0 issue "letsencrypt.org; validationmethods=http-01"',)


def test_name_without_the_record_is_nodata(asking: Asking) -> None:
    assert (asking("llm.example.com", "CAA").status, asking("llm.example.com", "CAA").values) == ("nodata", ())


def test_unknown_name_is_nxdomain(asking: Asking) -> None:
    assert asking("gone.example.com").status == "nxdomain"


def test_search_domain_is_not_tried(asking: Asking) -> None:
    assert asking("llm").status == "nxdomain"


@pytest.mark.parametrize(("name", "status"), [("broken", "servfail"), ("refused", "refused")])
def test_refusals_keep_their_name(asking: Asking, name: str, status: str) -> None:
    assert asking(f"{name}.example.com").status == status


def test_loop_of_aliases_is_no_answer_and_can_be_seen(asking: Asking) -> None:
    assert asking("loop.example.com").status in ("servfail", "nodata")
    assert asking("loop.example.com", "CNAME").values == ("loop.example.com",)


def test_long_answer_is_fetched_over_tcp(asking: Asking) -> None:
    assert len(asking("long.example.com").values) == len(LONG)


def test_lost_packet_is_sent_again(asking: Asking) -> None:
    asking.server.drops = 1
    assert asking("llm.example.com").status == "ok"


def test_silence_is_a_timeout(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "LIFETIME_S", 0.4)
    monkeypatch.setattr(door, "ATTEMPT_S", 0.2)
    assert asking("silent.example.com").status == "timeout"


def test_time_limits_leave_a_question_at_most_five_seconds() -> None:
    # An attempt may go by UDP and then by TCP.
    assert max(door.LIFETIME_S, door.ATTEMPTS * 2 * door.ATTEMPT_S) <= 5


@pytest.mark.parametrize("name", ["a..example.com", "a" * 64 + ".example.com", "a." * 200, "\\999"])
def test_impossible_name_is_an_answer_not_an_error(asking: Asking, name: str) -> None:
    assert asking(name).status == "invalid"


def test_closed_port_is_no_answer(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "LIFETIME_S", 0.4)
    monkeypatch.setattr(door, "ATTEMPT_S", 0.2)
    gone = resolve("llm.example.com", "A", asking.asked, port=1, resolv_conf=asking.resolv_conf)
    assert not gone.is_answer


def test_only_the_resolver_is_asked_to_recurse(asking: Asking) -> None:
    asking("llm.example.com")
    assert set(asking.server.recursion) == {asking.asked is None}


def test_server_without_authority_is_lame(name_server: NameServer) -> None:
    name_server.has_authority = False
    assert resolve("llm.example.com", "A", "127.0.0.1", port=name_server.port).status == "lame"


@pytest.mark.parametrize("text", [None, "", "nameserver\n", "nameserver not-an-address\n"])
def test_resolv_conf_that_names_no_server_is_an_answer_not_an_error(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "resolv.conf"
    if text is not None:
        path.write_text(text)
    answer = resolve("llm.example.com", "A", port=1, resolv_conf=str(path))
    assert not answer.is_answer


def test_server_that_is_no_address_is_an_answer_not_an_error() -> None:
    assert not resolve("llm.example.com", "A", "ns1.example.com").is_answer


def test_log_has_the_question_and_what_came_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    answer = DnsAnswer("llm.example.com", "A", status="servfail", detail="x\x1b[31my")
    monkeypatch.setattr(door, "resolve", lambda *_: answer)
    machine = RealMachine(Mask())
    monkeypatch.setattr(machine.observer, "note", notes.append)
    assert machine.resolve("llm.example.com", "A") is answer
    assert notes == ["DNS A llm.example.com (recursive): servfail xy"]
