"""Launch scripts of any shape: an edit is the same the second time, and vLLM gets the host that was asked for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wizard.parse.exec_start import bind_exec, parse_exec
from wizard.parse.launch import bind_to, parse_launch

HOSTS = st.sampled_from(["127.0.0.1", "127.0.0.1", "::1", "10.0.0.7"])
ADDRESS = st.sampled_from(["0.0.0.0", "::", "127.0.0.1", "192.0.2.7", "localhost"])
HOST_WORDS = ADDRESS.flatmap(
    lambda host: st.sampled_from(
        [f"--host {host}", f"--host={host}", f"--host '{host}'", f'--host "{host}"', f"--host={host[:2]}'{host[2:]}'"]
    )
) | st.sampled_from(["--host $H", '--host "$H"', "--host ${H:-0.0.0.0}", '--host="$H"', '"${A[@]}"', ""])
OTHER_WORDS = st.sampled_from(
    [
        "--port 8000",
        "--max-model-len=4096",
        "--trust-remote-code",
        "'a b'",
        '"$M"',
        "--tool 'x\\y'",
        "é",
        "--seed $((1+2))",
    ]
)
BEFORE = st.sampled_from(
    [
        "H=0.0.0.0",
        "H=127.0.0.1",
        "export H=::",
        "A=(--host 0.0.0.0 --dtype auto)",
        "A=(--dtype auto)",
        "A=()\nA+=(--host 192.0.2.7)",
        "M='x y'",
        "# vllm serve m --host 0.0.0.0",
        'if [ -n "$H" ]; then H="$H"; fi',
        "sleep 0",
        "cat <<E >/dev/null\nvllm serve not-this\nE",
        "echo starting >/dev/null",
        "set -u",
        "f() { :; }",
        "H=${H:-0.0.0.0}",
    ]
)


@st.composite
def scripts(draw: st.DrawFn) -> bytes:
    """A script as people write them: settings, then vLLM with its options on one line or on several."""
    lines = ["#!/bin/bash", "H=0.0.0.0", "A=()", "M=m", *draw(st.lists(BEFORE, max_size=4))]
    words = [draw(HOST_WORDS), *draw(st.lists(OTHER_WORDS | HOST_WORDS, max_size=4))]
    by = draw(st.sampled_from([" ", " \\\n  ", "  "]))
    head = draw(st.sampled_from(["exec vllm serve m", "vllm serve m", "nohup vllm serve m", "env X=1 vllm serve m"]))
    return (
        "\n".join([*lines, by.join(word for word in (head, *words) if word)]) + draw(st.sampled_from(["\n", ""]))
    ).encode()


@settings(max_examples=150)
@given(scripts(), HOSTS)
def test_editing_twice_is_editing_once_and_what_is_read_is_what_was_asked(source: bytes, host: str) -> None:
    edit = bind_to(source, host)
    if edit.content is None:
        assert edit.refusal and "\n" not in edit.refusal
        return
    assert bind_to(edit.content, host).content == edit.content
    hosts = {command.host for command in parse_launch(edit.content).commands}
    assert hosts == {host} or (host.startswith(("127.", "::1")) and hosts <= {"127.0.0.1", "localhost", "::1"})
    kept = [line for line in source.split(b"\n") if line in edit.content.split(b"\n")]
    assert len(source.split(b"\n")) - len(kept) <= 4, "a small edit"


RECORDER = '#!/bin/sh\nprintf \'%s\\0\' "$@" >"$RECORD"\n'


def given_to_vllm(place: Path, source: bytes, **environment: str) -> list[str]:
    """The arguments that vLLM gets where bash runs the script."""
    program, record, script = place / "vllm", place / "record", place / "start.sh"
    if not program.exists():
        program.write_text(RECORDER)
        program.chmod(0o755)
    record.unlink(missing_ok=True)
    script.write_bytes(source)
    path = f"{place}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", str(script)],
        env={"PATH": path, "RECORD": str(record), "LC_ALL": "C.UTF-8", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
        cwd=place,
    )
    return record.read_bytes().decode().split("\0")[:-1] if record.exists() else []


def split_host(words: list[str]) -> tuple[str | None, list[str]]:
    """The --host that counts for argparse, and all other arguments."""
    host, others, rest = None, [], iter(words)
    for word in rest:
        if word == "--host":
            host = next(rest, None)
        elif word.startswith("--host="):
            host = word.removeprefix("--host=")
        else:
            others.append(word)
    return host, others


def executed(place: Path, source: bytes, host: str) -> None:
    edit = bind_to(source, host)
    if edit.content is None:
        return
    before, after = given_to_vllm(place, source), given_to_vllm(place, edit.content)
    if not before:
        return  # `set -u`, say, ends it before vLLM
    received, others = split_host(after)
    assert others == split_host(before)[1]
    assert received == host or (host in ("127.0.0.1", "::1") and received in ("127.0.0.1", "localhost", "::1"))
    if edit.content != source:
        later, _ = split_host(given_to_vllm(place, edit.content, H="0.0.0.0", A="--host 0.0.0.0"))
        assert later == received


SHARED = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.allow_commands("bash", "sh")
@SHARED
@given(scripts(), HOSTS)
def test_vllm_receives_the_host_that_was_asked_for(tmp_path: Path, source: bytes, host: str) -> None:
    executed(tmp_path, source, host)


@pytest.mark.thorough
@pytest.mark.allow_commands("bash", "sh")
@settings(parent=SHARED, max_examples=250)
@given(scripts(), HOSTS)
def test_vllm_receives_the_host_that_was_asked_for_however_often_one_tries(
    tmp_path: Path, source: bytes, host: str
) -> None:
    executed(tmp_path, source, host)


PLAIN = st.lists(
    st.sampled_from(["--port 8000", "--dtype auto", "'a b'", "%%", "--host 0.0.0.0", "--host=::"]), max_size=4
)


@settings(max_examples=80)
@given(PLAIN, st.lists(st.sampled_from(["User=vllm", "# x", "Environment=A=1", "ExecStartPre=/bin/true"]), max_size=3))
def test_edit_of_a_unit_is_the_same_the_second_time(words: list[str], more: list[str]) -> None:
    command = " ".join(["/opt/vllm/venv/bin/vllm", "serve", "m", *words])
    source = "\n".join(
        ["[Unit]", "Description=x", "[Service]", *more, f"ExecStart={command}", "Restart=always", ""]
    ).encode()
    edit = bind_exec(source, "127.0.0.1", {})
    assert edit.content is not None, edit.refusal
    assert bind_exec(edit.content, "127.0.0.1", {}).content == edit.content
    assert {one.host for one in parse_exec(edit.content, {}).commands} == {"127.0.0.1"}
