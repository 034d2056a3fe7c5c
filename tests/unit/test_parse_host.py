"""What small programs and the kernel say about a host."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wizard.parse.apt import faults_of_sources
from wizard.parse.host import (
    Lock,
    Space,
    parse_assignments,
    parse_base_chains,
    parse_locks,
    parse_own_tables,
    parse_space,
    parse_synchronized,
    parse_udp,
)
from wizard.parse.shell_settings import parse_shell_settings, parse_sourced
from wizard.parse.start import parse_start, start_of
from wizard.parse.unit_files import exec_starts, parse_assigned, parse_unit_file


def test_space_is_read_once_for_each_mount_point() -> None:
    row = "/          78145708032 16163471\n"
    text = f"Mounted on       Avail    IFree\n{row}{row}/srv/my data 5 -\n"
    assert parse_space(text) == (Space("/", 78145708032, 16163471), Space("/srv/my data", 5, None))


def test_locks_without_a_process_or_a_file_are_left_out() -> None:
    text = "123 apt-get /var/lib/dpkg/lock\n-1 (undefined) /...\n-1 (undefined) \n7 two\\x20words /run/x\n9 cron \n"
    assert parse_locks(text) == (Lock(123, "apt-get", "/var/lib/dpkg/lock"), Lock(7, "two words", "/run/x"))


@pytest.mark.parametrize(
    ("text", "synchronized"), [("NTPSynchronized=yes\n", True), ("NTPSynchronized=no", False), ("", None)]
)
def test_clock_says_whether_it_is_synchronized(text: str, synchronized: bool | None) -> None:
    assert parse_synchronized(text) is synchronized


def test_keys_of_apt_are_read_by_the_names_given() -> None:
    assert parse_assignments("HTTP='http://a:1'\nHTTPS='DIRECT'\n") == {"HTTP": "http://a:1", "HTTPS": "DIRECT"}


def test_udp6_loopback_is_left_out() -> None:
    rows = ["head", "0: 00000000000000000000000000000000:14E9 00000000000000000000000000000000:0000 07",
            "1: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 07"]  # fmt: skip
    assert parse_udp("\n".join(rows)) == (5353,)


def test_tables_of_iptables_are_not_the_operators() -> None:
    text = "table ip filter\ntable ip6 nat\ntable inet filter\ntable ip own\n"
    assert parse_own_tables(text) == (("inet", "filter"), ("ip", "own"))


def test_base_chains_have_their_hook_policy_and_rules() -> None:
    text = (
        "table inet t {\n\tset s {\n\t\ttype ipv4_addr\n\t}\n\tchain in {\n\t\ttype filter hook input priority filter; "
        'policy drop;\n\t\tiif "lo" accept\n\t\ttcp dport { 22, 443 } accept\n\t}\n\tchain own {\n\t\tdrop\n\t}\n}\n'
    )
    (chain,) = parse_base_chains(text)
    assert (chain.hook, chain.policy) == ("input", "drop")
    assert chain.rules == ('iif "lo" accept', "tcp dport { 22, 443 } accept")


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("a.list", "deb http://x/ s main\n", []),
        ("a.list", "deb http://x/ s/\n", []),
        ("a.list", "  deb\thttp://x/\ts main\n# rpm\n\n", []),
        ("a.list", "deb [ arch=amd64 signed-by=/k ] http://x s main # c\r\n", []),
        ("a.list", "deb cdrom:[Ubuntu 24.04 x]/ noble main\n", []),
        ("a.list", "deb-src http://x s main\ndeb http://x/ s\n", [2]),
        ("a.list", "rpm http://x/ s main\n", [1]),
        ("a.list", "\n\ndeb [arch=amd64 http://x/ s main\n", [3]),
        ("a.list", "deb [trusted] http://x/ s main\n", [1]),
        ("a.list", "deb http://x/\n", [1]),
        ("a.list", "foo\n", [1]),
        ("a.sources", "Types: deb\nURIs: http://x/\nSuites: s\nComponents: main\n", []),
        ("a.sources", "# c\nTypes: deb\nURIs:\n http://x/\nSuites: s/\n\n\nTypes: deb\nEnabled: no\n", []),
        ("a.sources", "Types: deb\nURIs: http://x/\n", [1]),
        ("a.sources", "\nURIs: http://x/\nSuites: s\n", [2]),
        ("a.sources", "X-Repolib-Name: x\nEnabled: no\n", [1]),
        ("a.sources", "garbage\n", [1]),
    ],
)  # fmt: skip
def test_file_of_sources_is_faulted_where_apt_2_6_refuses_it(name: str, text: str, lines: list[int]) -> None:
    assert [line for line, _ in faults_of_sources(name, text)] == lines


def test_settings_of_a_unit_file_are_joined_cleared_and_followed() -> None:
    text = "# c\n[Service]\nExecStart=-/bin/a \\\n  # inside\n  b\nEnvironment=A=1 'B=2 3'\n; x\n"
    text += "[Install]\nEnvironment=C=1\n"
    assert ("Service", "ExecStart", "-/bin/a  b") in parse_unit_file(text)
    assert [command.split() for command in exec_starts(text)] == [["/bin/a", "b"]]
    found = parse_assigned([("/u", text), ("/d", "[Service]\nEnvironment=\nEnvironment=B=4%%\n")])
    assert [(one.name, one.value, one.path) for one in found] == [("B", "4%", "/d")]
    assert "4%" not in repr(found)


def test_script_settings_know_who_gets_them() -> None:
    text = (
        "A=1\nexport B='2 x'\nC=3\nexport C\n# export D=4\nE=5 vllm serve m\nexport F=$(cat /run/key)\n"
        'export G="$(< /run/other)"\nexport H=`date` I=7\n'
    )
    found = {one.name: (one.value, one.exported, one.path) for one in parse_shell_settings(text)}
    assert found == {
        "A": ("1", False, ""),
        "B": ("2 x", True, ""),
        "C": ("3", True, ""),
        "E": ("5", True, ""),
        "F": (None, True, "/run/key"),
        "G": (None, True, "/run/other"),
        "H": (None, True, ""),
        "I": ("7", True, ""),
    }
    assert parse_sourced("source /a/b.env\n. '/c d'\n  . \"/e\"\nsource rel\n") == ("/a/b.env", "/c", "/e")
    assert all(one.exported for one in parse_shell_settings("set -a\nA=1\n"))


def test_start_is_the_last_command_and_its_kind() -> None:
    assert parse_start("").kind == "none"
    assert start_of(("/bin/bash", "-euo", "pipefail", "/x.sh")).script == "/x.sh"
    assert start_of(("/usr/bin/env", "-S", "A=1", "bash", "-x", "/x.sh")).script == "/x.sh"
    assert start_of(("/usr/bin/podman", "run", "x")).kind == "container"
    assert start_of(("/usr/bin/env",)).kind == "none"


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    parse_space(text), parse_locks(text), parse_synchronized(text), parse_assignments(text)
    (
        parse_udp(f"head\n0: {text} 00000000:0000 07"),
        parse_own_tables(text),
        parse_base_chains(f"\tchain a {{\n{text}\n\t}}"),
    )
    for name in ("a.list", "a.sources"):
        tuple(faults_of_sources(name, text))
    parse_assigned([("/u", f"[Service]\nEnvironment={text}")])
    parse_shell_settings(f"export A={text}")
    parse_start(f"{{ path=x ; argv[]={text} ; ignore_errors=no ")
