"""Properties of units in the form of systemd 255's `systemctl show`."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from wizard.parse.units import (
    parse_environment_files,
    parse_exec_commands,
    parse_exec_start,
    parse_show,
    parse_socket_listen,
)

RECORDED = Path(__file__).parents[1] / "recorded" / "units"


def services() -> dict[str, dict[str, str]]:
    return parse_show((RECORDED / "systemd-255-format-services.txt").read_text())


def test_units_are_told_apart_by_their_id_wherever_it_stands() -> None:
    assert list(services()) == ["vllm.service", "caddy.service", "odd.service"]
    assert services()["caddy.service"]["LoadState"] == "not-found"
    assert services()["vllm.service"]["MainPID"] == "812"


def test_value_keeps_its_equals_signs() -> None:
    assert services()["vllm.service"]["Environment"] == 'HF_HOME=/opt/vllm/hf "NOTE=two words"'


def test_value_keeps_its_line_breaks_and_blank_lines() -> None:
    unit = services()["odd.service"]
    assert parse_exec_start(unit["ExecStart"])[:3] == ("/bin/bash", "-c", "vllm")
    assert parse_exec_start(unit["ExecStart"])[-2:] == ("--port", "8000")
    assert unit["LoadState"] == "loaded"


def test_environment_files_are_paths_and_whether_they_may_be_missing() -> None:
    assert parse_environment_files(services()["vllm.service"]["EnvironmentFiles"]) == (
        ("/etc/vllm/vllm.env", False),
        ("/etc/vllm/extra local.env", True),
    )
    assert parse_environment_files(services()["caddy.service"]["EnvironmentFiles"]) == ()


def test_exec_start_is_the_arguments_of_the_first_command() -> None:
    assert parse_exec_start(services()["vllm.service"]["ExecStart"]) == ("/opt/vllm/start-vllm.sh",)
    assert parse_exec_start("") == ()


def test_quotes_that_systemd_prints_around_an_argument_are_resolved() -> None:
    value = "{ path=/bin/sh ; argv[]=/bin/sh -c 'a b' ; ignore_errors=no ; pid=0 }"
    assert parse_exec_start(value) == ("/bin/sh", "-c", "a b")


def test_several_commands_are_kept_apart() -> None:
    first = "{ path=/a ; argv[]=/a x ; ignore_errors=no ; pid=0 }"
    second = "{ path=/b ; argv[]=/b it's ; flags= ; pid=0 }"
    assert parse_exec_commands(f"{first}\n{second}") == (("/a", "x"), ("/b", "it's"))


def test_socket_listens_on_addresses_and_ports() -> None:
    unit = parse_show((RECORDED / "systemd-255-format-ssh.txt").read_text())["ssh.socket"]
    assert parse_socket_listen(unit["Listen"]) == (("0.0.0.0", 22), ("::", 22), ("192.0.2.7", 2222))


def test_socket_output_may_be_given_as_printed_and_other_kinds_are_left_out() -> None:
    text = "Listen=[::]:22 (Stream)\nListen=/run/x.sock (Stream)\nListen=*:53 (Datagram)\nListen=*:2022 (Stream)\n"
    assert parse_socket_listen(text) == (("::", 22), ("*", 2022))


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    for unit in parse_show(text).values():
        assert unit
    parse_exec_start("{ path=x ; argv[]=" + text + " ; ignore_errors=no")
    parse_environment_files(text)
    parse_socket_listen(text)
