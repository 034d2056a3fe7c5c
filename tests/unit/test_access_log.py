"""The request of another machine is found in what the real Caddy wrote, and nothing else is taken for one."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers import scenario
from wizard import access_log, files, paths
from wizard.gateway import RealGateway
from wizard.parse.access_log import Arrival, arrivals, parse_record

RECORDED = Path(__file__).parents[1] / "recorded" / "access_log" / "caddy-2.11.7.log"
LINES = RECORDED.read_text().splitlines()
OWN = ("10.91.1.5", "fd91::1:4")
SINCE = 1795592000.0


def record(address: str = "198.51.100.20", at: object = SINCE, status: object = 200, **request: Any) -> str:
    asked = {"remote_ip": address, "client_ip": address, "uri": "/v1/models", **request}
    return json.dumps({"ts": at, "request": asked, "status": status})


def pairs(lines: list[str], since: float = SINCE) -> list[tuple[str, str, int]]:
    return [(one.address, one.path, one.status) for one in arrivals(lines, OWN, since)]


def test_recorded_requests_of_others_for_the_api_are_found() -> None:
    assert pairs(LINES) == [
        ("198.51.100.20", "/v1/models", 401),
        ("198.51.100.20", "/v1/models", 401),
        ("198.51.100.20", "/v1/models", 200),
        ("198.51.100.20", "/v1/chat/completions", 200),
        ("2001:db8::20", "/v1/models", 200),
        ("198.51.100.21", "/v1/slow", 499),
        ("198.51.100.21", "/v1/models", 502),
    ]


def test_recording_has_requests_that_do_not_count() -> None:
    """What is left out above is in it: the server's own, by its address and by loopback, and other paths."""
    found = [one for line in LINES if (one := parse_record(line))]
    assert len(found) == len(LINES)
    assert {one.address for one in found} >= {"10.91.1.5", "127.0.0.1"}
    assert {one.path for one in found} >= {"/metrics", "/v1"}


def test_recording_has_no_key_in_it() -> None:
    assert "sk-" not in RECORDED.read_text() and '"Authorization":["REDACTED"]' in RECORDED.read_text()


def test_earlier_requests_are_not_found() -> None:
    last = parse_record(LINES[-1])
    assert last is not None
    assert arrivals(LINES, OWN, last.at) == (last,)
    assert arrivals(LINES, OWN, last.at + 0.001) == ()


def test_whole_seconds_are_a_time() -> None:
    assert arrivals([record(at=1795592000)], OWN, SINCE) == (Arrival("198.51.100.20", "/v1/models", 200, SINCE),)


@pytest.mark.parametrize(
    ("address", "counts"),
    [
        ("203.0.113.9", True),
        ("::ffff:203.0.113.9", True),
        ("::ffff:10.91.1.5", False),
        ("fd91:0::1:4", False),
        ("::1", False),
        ("127.8.9.1", False),
        ("a name", False),
    ],
)
def test_own_addresses_do_not_count_however_they_are_written(address: str, counts: bool) -> None:
    assert bool(pairs([record(address)])) is counts


def test_client_behind_a_trusted_proxy_is_told_by_its_own_address() -> None:
    assert pairs([record(remote_ip="10.0.0.1", client_ip="198.51.100.7")]) == [("198.51.100.7", "/v1/models", 200)]
    assert pairs([record(remote_ip="198.51.100.8", client_ip="")]) == [("198.51.100.8", "/v1/models", 200)]


ODD = [
    record(at="now"),
    record(at=None),
    record(at=10**400),
    record(status="200"),
    record(status=True),
    record(uri=None),
    record(uri="/v1/../metrics"),
    record(uri="/v1"),
    "[" * 100_000,
    '{"ts": NaN, "request": {"client_ip": "198.51.100.20", "uri": "/v1/models"}, "status": 200}',
    LINES[2][:-1],
    LINES[2][1:],
    "",
    "null",
    '{"request": []}',
]


@pytest.mark.parametrize("line", ODD, ids=range(len(ODD)))
def test_what_is_no_record_of_the_api_is_passed_over(line: str) -> None:
    assert pairs([line, record()]) == [("198.51.100.20", "/v1/models", 200)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = {"ts": JSON, "status": JSON}
REQUEST = st.fixed_dictionaries({}, optional={"client_ip": JSON, "remote_ip": JSON, "uri": JSON})
RECORDS = st.fixed_dictionaries({}, optional={**FIELDS, "request": REQUEST | JSON})


@given(st.lists(st.text() | RECORDS.map(json.dumps) | JSON.map(json.dumps), max_size=5), st.lists(st.text()))
def test_parser_never_raises(lines: list[str], own: list[str]) -> None:
    assert all(isinstance(one, Arrival) for one in arrivals(lines, own, float("-inf")))


@given(st.integers(0, len(RECORDED.read_text()) - 1), st.text(max_size=3))
def test_damaged_log_never_raises(at: int, put: str) -> None:
    text = RECORDED.read_text()
    assert len(pairs((text[:at] + put + text[at + 1 :]).split("\n"))) <= len(LINES) + len(put)


# ── the log's end, and words ──


def test_it_is_the_log_that_our_caddyfile_names() -> None:
    caddyfile = scenario.load("finished").look().server.read(paths.CADDYFILE)
    assert caddyfile is not None and f"output file {paths.ACCESS_LOG} {{" in caddyfile.text


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "vllm-https.log"
    monkeypatch.setattr(paths, "ACCESS_LOG", str(place))
    return place


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        ([], ""),
        ([200], "198.51.100.20 has used it: 200"),
        ([401], "198.51.100.20 has reached it: 401, the key was missing or wrong"),
        ([502], "198.51.100.20 has reached it: 502"),
        ([401, 502], "198.51.100.20 has reached it: 502"),
        ([401, 200, 401], "198.51.100.20 has used it: 200"),
    ],
)
def test_the_last_success_is_told_else_the_last_request(statuses: list[int], said: str) -> None:
    assert access_log.in_words(arrivals([record(status=one) for one in statuses], OWN, SINCE)) == said


def test_last_request_is_found_at_the_end_of_a_long_log(log: Path) -> None:
    earlier = record("203.0.113.9", at=SINCE - 1)
    log.write_text(f"{earlier}\n" * (2 * access_log.MOST_BYTES // len(earlier)) + record() + "\n")
    assert access_log.arrived(OWN, SINCE) == "198.51.100.20 has used it: 200"


def test_line_that_is_being_written_is_waited_for(log: Path) -> None:
    whole = record() + "\n"
    log.write_text(whole[:40])
    assert access_log.arrived(OWN, SINCE) == ""
    log.write_text(whole)
    assert access_log.arrived(OWN, SINCE) != ""


def test_no_log_is_nobody(log: Path) -> None:
    assert access_log.arrived(OWN, SINCE) == ""
    (log.parent / "elsewhere").write_text(record())
    log.symlink_to(log.parent / "elsewhere")
    assert access_log.arrived(OWN, SINCE) == ""
    log.unlink()
    os.mkfifo(log)
    assert access_log.arrived(OWN, SINCE) == ""


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("after", ["", record("10.91.1.5", at=SINCE + 1) + "\n"])
def test_request_is_found_in_the_log_that_was_put_aside(log: Path, packed: bool, after: str) -> None:
    name = "vllm-https-2026-11-25T07-35-07.353-size.log"
    content = f"{record()}\n".encode()
    (log.parent / "vllm-https-2026-11-24T07-35-07.353-size.log.gz").write_bytes(gzip.compress(b"older"))
    (log.parent / f"{name}{'.gz' if packed else ''}").write_bytes(gzip.compress(content) if packed else content)
    log.write_text(after)
    assert access_log.arrived(OWN, SINCE) == "198.51.100.20 has used it: 200"


def test_log_that_was_put_aside_long_ago_is_not_unpacked(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = log.parent / "vllm-https-2026-11-24T07-35-07.353-size.log.gz"
    old.write_bytes(gzip.compress(record().encode()))
    os.utime(old, (SINCE - 60, SINCE - 60))
    read: list[str] = []

    def note(path: str, most: int) -> bytes:
        read.append(path)
        return b""

    monkeypatch.setattr(files, "read_tail", note)
    assert access_log.arrived(OWN, SINCE) == ""
    assert read == [str(log)]


def test_log_that_is_being_packed_is_nobody_yet(log: Path) -> None:
    whole = gzip.compress(os.urandom(4096))
    for length in (0, 5, 60, len(whole) - 3):
        (log.parent / "vllm-https-2026-11-25T07-35-07.353-size.log.gz").write_bytes(whole[:length])
        assert access_log.arrived(OWN, SINCE) == ""


def test_end_of_a_packed_log_is_its_last_bytes(tmp_path: Path) -> None:
    content = os.urandom(3 * 1024 * 1024)
    packed = tmp_path / "log.gz"
    packed.write_bytes(gzip.compress(content, 1))
    assert files.read_tail(str(packed), 1000) == content[-1000:]


def test_gateway_knows_its_own_addresses(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wizard.server import Address
    from wizard.system import RealMachine

    monkeypatch.setattr(RealMachine, "addresses", lambda self: (Address("eth0", "10.91.1.5", True),))
    log.write_text(record("10.91.1.5") + "\n")
    assert RealGateway().arrived(SINCE) == ""
    log.write_text(record("10.91.1.6") + "\n")
    assert RealGateway().arrived(SINCE) == "10.91.1.6 has used it: 200"
