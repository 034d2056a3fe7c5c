"""No parser raises, whatever it is given: every function of wizard/parse that takes text, on any text, on text made of
its own words, and on recorded outputs with a piece replaced."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import ipaddress
import json
import pkgutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.unit.conftest import own_paths
from wizard import access_log, answers_yaml, facts, journal, parse, rollback
from wizard.model import SetupError
from wizard.owned import load_owned
from wizard.parse import access_log as arrivals_room
from wizard.parse import (
    account,
    apt,
    caddy_admin,
    caddy_modules,
    certificate_files,
    certificates,
    environment,
    error_line,
    event_stream,
    exec_start,
    exposure,
    fail2ban,
    host,
    in_shell,
    keyring,
    launch,
    netfilter,
    pem,
    shell_settings,
    sockets,
    sshd,
    start,
    ufw,
    unit_files,
    units,
    vllm_config,
)
from wizard.server import FileState

__all__ = ["own_paths"]
NOW = datetime(2026, 11, 24, tzinfo=UTC)
Parser = Callable[[bytes], object]
RECORDED = Path(__file__).parents[1] / "recorded"


def of_text(read: Callable[[str], object]) -> Parser:
    """A parser of text, given bytes as the doors decode them."""
    return lambda data: read(data.decode("utf-8", "replace"))


def walked(text: str) -> None:
    """The rules, and the verdict on a packet: what is read is also gone through."""
    ruleset = netfilter.parse_ruleset(text)
    netfilter.is_ufw_loaded(ruleset)
    netfilter.is_ufw_stopped(ruleset)
    netfilter.is_ufw_whole(ruleset, "deny")
    netfilter.foreign_rules(ruleset)
    netfilter.foreign_chains(ruleset)
    for source in (None, "203.0.113.7"):
        netfilter.evaluate(ruleset, netfilter.Packet("tcp", 22, source, "eth0", family=4, destination="192.0.2.1"))


def decided(text: str) -> None:
    rules = ufw.parse_user_rules(text, 4)
    for rule in rules:
        assert rule.words and rule.deletion and rule.edges is not None and isinstance(rule.sources, str)
    ufw.decide(rules, ufw.parse_defaults(text), 22, "tcp", "203.0.113.7", "eth0", 4)


def certificate_and_key(data: bytes) -> None:
    certificate_files.read_certificates(data)
    certificate_files.read_keys(data, True)
    half = len(data) // 2
    certificates.read_pair(data[:half], data[half:], "llm.example.com", NOW)


# Each public function of wizard/parse that reads what comes from outside, by its room and name.
PARSERS: dict[str, Parser] = {
    "access_log.arrivals": of_text(lambda text: arrivals_room.arrivals(text.split("\n"), ["::1", "x"], 0)),
    "access_log.parse_record": of_text(arrivals_room.parse_record),
    "account.read_account": of_text(account.read_account),
    "error_line.line_of_error": of_text(error_line.line_of_error),
    "apt.faults_of_sources": of_text(
        lambda text: [apt.faults_of_sources(f"a.{end}", text) for end in ("list", "sources")]
    ),
    "apt.is_locked": of_text(apt.is_locked),
    "apt.parse_deb822": of_text(apt.parse_deb822),
    "apt.parse_lock_holder": of_text(apt.parse_lock_holder),
    "apt.parse_packages": of_text(apt.parse_packages),
    "apt.parse_policy": of_text(apt.parse_policy),
    "apt.parse_simulation": of_text(apt.parse_simulation),
    "apt.parse_sources_list": of_text(apt.parse_sources_list),
    "certificate_files.read_certificates": certificate_and_key,
    "certificate_files.read_keys": certificate_and_key,
    "certificates.read_pair": certificate_and_key,
    "environment.parse_environment": of_text(environment.parse_environment),
    "event_stream.arrivals": lambda data: event_stream.came_at_once(event_stream.arrivals([(1.0, data), (2.0, data)])),
    "exec_start.bind_exec": lambda data: exec_start.bind_exec(data, "127.0.0.1", {"A": "--host 0.0.0.0"}),
    "exec_start.exec_words": exec_start.exec_words,
    "exec_start.find_inline": exec_start.find_inline,
    "exec_start.exec_lines": exec_start.exec_lines,
    "exec_start.parse_exec": lambda data: exec_start.parse_exec(data, {"A": "x y"}),
    "exec_start.parse_set": of_text(lambda text: list(exec_start.parse_set([text, text]))),
    "host.parse_assignments": of_text(host.parse_assignments),
    "host.parse_base_chains": of_text(lambda text: [one.refuses(443) for one in host.parse_base_chains(text)]),
    "host.parse_locks": of_text(host.parse_locks),
    "host.parse_own_tables": of_text(host.parse_own_tables),
    "host.parse_space": of_text(host.parse_space),
    "host.parse_synchronized": of_text(host.parse_synchronized),
    "host.parse_udp": of_text(host.parse_udp),
    "in_shell.host_given": of_text(in_shell.host_given),
    "keyring.dearmor": keyring.dearmor,
    "keyring.read_keyring": keyring.read_keyring,
    "launch.bind_to": launch.bind_to,
    "launch.parse_launch": lambda data: launch.parse_launch(data, {"A": "--host 0.0.0.0"}, arguments=False),
    "netfilter.parse_ruleset": of_text(walked),
    "pem.read_blocks": pem.read_blocks,
    "shell_settings.exports_all": of_text(shell_settings.exports_all),
    "shell_settings.parse_shell_settings": of_text(shell_settings.parse_shell_settings),
    "shell_settings.parse_sourced": of_text(shell_settings.parse_sourced),
    "sockets.parse_listeners": of_text(sockets.parse_listeners),
    "sockets.parse_peers": of_text(sockets.parse_peers),
    "sshd.parse_ssh_connection": of_text(sshd.parse_ssh_connection),
    "sshd.parse_sshd_config_dump": of_text(sshd.parse_sshd_config_dump),
    "start.parse_start": of_text(start.parse_start),
    "ufw.parse_defaults": of_text(ufw.parse_defaults),
    "ufw.is_cut_off": of_text(ufw.is_cut_off),
    "ufw.parse_enabled": of_text(ufw.parse_enabled),
    "ufw.parse_log_level": of_text(ufw.parse_log_level),
    "caddy_admin.admin_address": of_text(caddy_admin.admin_address),
    "caddy_admin.admin_socket": of_text(caddy_admin.admin_socket),
    "caddy_modules.modules": of_text(caddy_modules.modules),
    "environment.with_value": lambda data: environment.with_value(data, "VLLM_API_KEY", "sk-0"),
    "exposure.parse_exposure": of_text(exposure.parse_exposure),
    "fail2ban.parse_banned": of_text(fail2ban.parse_banned),
    "fail2ban.parse_logs": of_text(fail2ban.parse_logs),
    "ufw.parse_user_rules": of_text(decided),
    "unit_files.exec_starts": of_text(unit_files.exec_starts),
    "unit_files.parse_assigned": of_text(lambda text: unit_files.parse_assigned([("a", text), ("b", text)])),
    "unit_files.parse_unit_file": of_text(unit_files.parse_unit_file),
    "units.exec_texts": of_text(units.exec_texts),
    "units.parse_environment_files": of_text(units.parse_environment_files),
    "units.parse_exec_commands": of_text(units.parse_exec_commands),
    "units.parse_exec_start": of_text(units.parse_exec_start),
    "units.parse_show": of_text(units.parse_show),
    "units.parse_socket_listen": of_text(units.parse_socket_listen),
    "vllm_config.parse_vllm_config": lambda data: vllm_config.parse_vllm_config("f", data),
    # Beside wizard/parse: what is ours and may have been damaged, and what a person gives.
    "answers_yaml.parse": answers_yaml.parse,
    "owned.load_owned": lambda data: load_owned(FileState("file", data)),
    "facts.parse_versions": of_text(lambda text: facts.parse_versions(text, "caddy")),
    "access_log.in_words": of_text(lambda text: access_log.in_words(arrivals_room.arrivals([text], [], 0))),
}
# What these rooms make of things that were read already, or ask of them.
ASKED = {
    *("binding.find_changes", "binding.rewrite", "completion.said", "event_stream.came_at_once"),
    *("in_shell.bind_inline", "in_shell.read_inline"),
    *("binding.bind", "certificate_checks", "certificates.check_match", "certificates.find_leaf"),
    *("certificates.make_pair", "certificate_files.is_issued_by", "certificate_files.printable", "conditions.judge"),
    *("exec_start.holds_command", "launch.is_loopback", "launch.mentions", "launch.read_command"),
    *("launch.runs_directly", "launch.server_arguments", "netfilter.evaluate", "netfilter.foreign_chains"),
    *("netfilter.foreign_rules", "netfilter.is_ufw_loaded", "netfilter.is_ufw_stopped", "netfilter.is_ufw_whole"),
    *("options", "pem.write_block", "refusals", "shell"),
    *("start.start_of", "ufw.decide", "ufw.port_in", "words"),
}


def test_every_parser_is_among_them() -> None:
    found = set()
    for module in pkgutil.iter_modules(parse.__path__):
        room = importlib.import_module(f"wizard.parse.{module.name}")
        for name, one in vars(room).items():
            if inspect.isfunction(one) and one.__module__ == room.__name__ and not name.startswith("_"):
                found.add(f"{module.name}.{name}")
    found = {name for name in found if name not in ASKED and name.partition(".")[0] not in ASKED}
    assert found == {name for name in PARSERS if name in found} and len(found) > 40


RECORDINGS = sorted(path for path in RECORDED.rglob("*") if path.is_file() and path.stat().st_size < 20000)
# What the formats are made of, and what has broken parsers elsewhere.
WORDS = r"""
### tuple allow tcp 22 any 0.0.0.0/0 in comment= -A INPUT -s -j ACCEPT *filter COMMIT :INPUT DROP -p -m
multiport --dports Id= ExecStart={ path= argv[]= ; } Listen= [::]:22 (Stream) Types: deb Signed-By: http://x
[signed-by=/k] Package: Version: ii vllm serve --host 0.0.0.0 --host= --port $A ${A:-b} "$@" $( ) ` ' " \ export A=
set -a source /etc/shadow $(cat /x)
-----BEGIN CERTIFICATE----- -----END PRIVATE KEY----- MIIB {"request":{"client_ip": "ts": 1e999 "status": null
LISTEN 0 128 *:443 users:(("a",pid=1,fd=3))
[Service] ExecStart= Environment= % %% %i ${ host: !!binary <<: *a &a [ ] { } ? | > # - : , =
\x00 ² ٣ 99999999999999999999
"""
TEXT: SearchStrategy[bytes] = st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
PIECES: SearchStrategy[bytes] = st.lists(
    st.sampled_from([*WORDS.split(), "\n", "\n", "\t", " ", "\r\n", "\x1b[2J", "\ufeff", "\u2028"])
    | st.text(max_size=3),
    max_size=25,
).flatmap(
    lambda words: st.sampled_from([" ", "", "\n"]).map(lambda by: by.join(words).encode("utf-8", "surrogatepass"))
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A recorded output with a piece replaced, doubled or cut off."""
    data = draw(st.sampled_from(RECORDINGS)).read_bytes()
    at, end = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
    piece = draw(st.binary(max_size=4) | st.sampled_from([data[at:end], b"\0", b"\n", b'"', b"'", b"{", b"\xff", b"="]))
    return data[:at] + piece + data[draw(st.sampled_from([at, end, min(at + 1, len(data))])) :]


ANY = TEXT | st.binary(max_size=200) | PIECES | damaged()


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=40)
@given(data=ANY)
def test_parser_never_raises(name: str, data: bytes) -> None:
    PARSERS[name](data)


@pytest.mark.thorough
@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=200)
@given(data=ANY)
def test_parser_never_raises_however_long_one_tries(name: str, data: bytes) -> None:
    PARSERS[name](data)


# ── the journal: whatever a power loss has left of it ──

EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "event": st.sampled_from(["run", "action_began", "action_ended", "end", "rolled_back", "continued", "note"]),
        "at": st.floats() | st.none() | st.text(max_size=2),
        "ok": st.booleans() | st.none(),
        "exit_code": st.integers() | st.none() | st.lists(st.none(), max_size=1),
        "by": st.text(max_size=3) | st.none(),
        "step": st.just("bind") | st.integers(),
        "change": st.none()
        | st.fixed_dictionaries(
            {"kind": st.sampled_from(["run", "write", "remove", "wait", "x"])}, optional={"path": st.text()}
        ),
        "backup": st.none() | st.text(max_size=3),
    },
)
LINES = st.lists(
    st.one_of(EVENTS.map(json.dumps), st.text(max_size=20), st.just("\0" * 50), st.just("[" * 2000)), max_size=6
)


@settings(max_examples=150)
@given(
    lines=LINES, request_=st.text(max_size=10) | st.just('{"command": "apply", "began": 1.0}'), cut=st.integers(0, 400)
)
def test_journal_is_read_whatever_is_left_of_it(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], request_: str, cut: int
) -> None:
    runs = tmp_path_factory.mktemp("runs")
    (runs / "one").mkdir()
    (runs / "one" / "request.json").write_text(request_, errors="surrogatepass")
    text = "\n".join(lines).encode("utf-8", "surrogatepass")
    (runs / "one" / "journal.jsonl").write_bytes(text[: len(text) - cut] if cut < len(text) else text)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("wizard.paths.RUNS", str(runs))
        journal.find_unfinished()
        journal.read_events("one")
        with contextlib.suppress(SetupError):
            journal.read_report("one")
        with contextlib.suppress(SetupError):
            rollback.read_done("one")


# ── parse(render(x)) = x ──

NAMES = st.from_regex(r"[a-z][a-z0-9]{0,7}", fullmatch=True)
PORTS = st.integers(1, 65535).map(str)
SOURCES = {
    4: st.just("0.0.0.0/0")
    | st.ip_addresses(v=4).map(str)
    | st.integers(1, 2**24 - 1).map(lambda one: str(ipaddress.ip_network((one << 8, 24)))),
    6: st.just("::/0") | st.ip_addresses(v=6).map(str),
}


@st.composite
def rules(draw: st.DrawFn) -> ufw.UfwRule:
    """Any rule for incoming packets that ufw can store."""
    family = draw(st.sampled_from([4, 6]))
    several = st.lists(PORTS, min_size=1, max_size=3, unique=True).map(",".join)
    span = st.tuples(st.integers(1, 999), st.integers(1000, 65535)).map(lambda ends: f"{ends[0]}:{ends[1]}")
    port = draw(st.just("any") | several | span)
    return ufw.UfwRule(
        draw(st.sampled_from(["allow", "deny", "reject", "limit"])),
        draw(st.sampled_from(["tcp", "udp"] + (["any"] if port == "any" or port.isdigit() else []))),
        port,
        draw(SOURCES[family]),
        draw(st.just("any") | PORTS),
        draw(SOURCES[family]),
        "in",
        draw(st.none() | NAMES),
        comment=draw(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=12)),
        family=family,
    )


def stored(rule: ufw.UfwRule) -> str:
    """The line that ufw 0.36 keeps of a rule (backend_iptables.py, _write_rules)."""
    way = f"in_{rule.interface}" if rule.interface else "in"
    comment = f" comment={rule.comment.encode().hex()}" if rule.comment else ""
    ends = f"{rule.port} {rule.destination} {rule.source_port} {rule.source}"
    return f"### tuple ### {rule.action} {rule.protocol} {ends} {way}{comment}"


@settings(max_examples=100)
@given(st.lists(rules(), max_size=4))
def test_rules_that_ufw_keeps_are_the_ones_that_are_read(given_: list[ufw.UfwRule]) -> None:
    text = "*filter\n" + "".join(f"\n{stored(rule)}\n-A ufw-user-input -j ACCEPT\n" for rule in given_) + "COMMIT\n"
    for family in (4, 6):
        wanted = tuple(rule for rule in given_ if rule.family == family)
        lines = "".join(f"{stored(rule)}\n" for rule in wanted)
        assert ufw.parse_user_rules(lines, family) == wanted
    assert len(ufw.parse_user_rules(text, 4)) == len(given_)


# A value as systemd's own rule asks for it: in single quotes nothing but the quote itself has a meaning.
VALUES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="'"), max_size=30)


@settings(max_examples=100)
@given(st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True), VALUES, max_size=5))
def test_environment_that_is_written_is_the_one_that_is_read(variables: dict[str, str]) -> None:
    text = "".join(f"{name}='{value}'\n" for name, value in variables.items())
    read = environment.parse_environment(text)
    assert {one.name: one.value for one in read.entries} == variables
    assert read.flaws == ()


@settings(max_examples=60)
@given(st.binary(min_size=1, max_size=300), st.sampled_from(["CERTIFICATE", "PRIVATE KEY"]))
def test_block_that_is_written_is_the_one_that_is_read(der: bytes, label: str) -> None:
    (block,) = pem.read_blocks(b"before\n" + pem.write_block(label, der) + b"after\n")
    assert (block.label, block.der) == (label, der)


FILES: SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.text(max_size=10), st.none() | st.text(max_size=10), max_size=4
)


@settings(max_examples=60)
@given(FILES, st.lists(st.lists(st.text(max_size=6), max_size=3).map(tuple), max_size=3, unique=True))
def test_what_is_ours_is_read_as_it_was_written(files: dict[str, Any], commands: list[tuple[str, ...]]) -> None:
    from wizard.owned import Owned

    owned = Owned()
    for path, backup in files.items():
        owned = owned.before_write(path, None if backup is None else FileState("file", b"x", 0o4755, "é", "g"), backup)
        owned = owned.after_write(path, path.encode("utf-8", "replace"))
    for argv in commands:
        owned = owned.before_command(argv, (("undo", *argv),))
    assert load_owned(FileState("file", owned.dump().encode())) == owned
