"""OpenSSH's own word on its ports, and SSH_CONNECTION."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wizard.parse.sshd import SshConnection, parse_ssh_connection, parse_sshd_config_dump

RECORDED = Path(__file__).parents[1] / "recorded" / "sshd"


@pytest.mark.parametrize(
    ("name", "ports"),
    [("default", (22,)), ("several-addresses", (22, 2022, 2200, 2222)), ("no-run-directory", ())],
)
def test_configured_ports_are_found(name: str, ports: tuple[int, ...]) -> None:
    assert parse_sshd_config_dump((RECORDED / f"openssh-9.2p1-{name}.txt").read_text()) == ports


def test_port_without_an_address_is_not_listened_on() -> None:
    assert parse_sshd_config_dump("port 22\nlistenaddress 192.0.2.7:2022\n") == (2022,)


def test_ports_alone_are_enough() -> None:
    assert parse_sshd_config_dump("port 2222\nport 22\nport 99999\n") == (22, 2222)


def test_connection_has_both_ends() -> None:
    assert parse_ssh_connection("198.51.100.4 51234 192.0.2.7 2222") == SshConnection(
        "198.51.100.4", 51234, "192.0.2.7", 2222
    )


def test_v4_client_on_a_v6_socket_is_seen_as_the_firewall_sees_it() -> None:
    found = parse_ssh_connection("::ffff:198.51.100.4 51234 ::ffff:192.0.2.7 22")
    assert found == SshConnection("198.51.100.4", 51234, "192.0.2.7", 22)


@pytest.mark.parametrize("value", ["", "UNKNOWN 65535 UNKNOWN 65535", "1.2.3.4 x 1.2.3.4 22", "1.2.3.4 1 1.2.3.4 0"])
def test_what_is_not_a_connection_is_none(value: str) -> None:
    assert parse_ssh_connection(value) is None


@given(st.text(), st.lists(st.sampled_from(["::1", "1.2.3.4", "²", "22", "fe80::1%e"])))
def test_any_text_is_read_without_an_error(text: str, words: list[str]) -> None:
    parse_sshd_config_dump(text)
    parse_sshd_config_dump("port " + text + "\nlistenaddress " + text)
    parse_ssh_connection(text)
    parse_ssh_connection(" ".join(words))
