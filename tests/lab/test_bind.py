"""vLLM started as real servers do it, on booted ones: bound where its command stands, and taken back by a rollback."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.lab import File, ServerSpec
from tests.lab.base import VLLM_ID
from tests.lab.operator import Operator, changes_of, findings, in_words, restarted, troubles
from tests.lab.spec import VLLM_SERVICE

pytestmark = pytest.mark.lab

SCRIPT, UNIT = "/opt/vllm/start-vllm.sh", "/etc/systemd/system/vllm.service"
DROP_IN = "/etc/systemd/system/vllm.service.d/override.conf"
PROGRAM = "/opt/vllm/venv/bin/vllm"
DEFAULT = """\
#!/usr/bin/env bash
set -euo pipefail
source /opt/vllm/venv/bin/activate
HOST="${HOST:-0.0.0.0}"
PORT="${PORT:-8000}"
echo "vLLM on ${HOST}:${PORT}"
exec vllm serve microsoft/Phi-4-mini-instruct \\
\t--host "${HOST}" --port "${PORT}" \\
\t--served-model-name phi-4-mini ${VLLM_EXTRA_ARGS:-}"""
ARRAY = f"""\
#!/bin/bash
ARGS=(microsoft/Phi-4-mini-instruct --served-model-name phi-4-mini)
ARGS+=(--host 0.0.0.0   # every interface
       --port 8000)
[ -n "${{EAGER:-}}" ] && ARGS+=(--enforce-eager)
exec {PROGRAM} serve "${{ARGS[@]}}"
"""
SERVE = f"{PROGRAM} serve ${{MODEL}} \\\n# --port 9000 \\\n    --host ${{BIND}} \\\n    --served-model-name phi-4-mini"
VARIABLES = "Environment=MODEL=microsoft/Phi-4-mini-instruct BIND=0.0.0.0"
IN_UNIT = VLLM_SERVICE.replace(f"ExecStart={SCRIPT}\n", f"{VARIABLES}\nExecStart={SERVE}\n")
# What systemd takes apart, in one line each: escapes, ${NAME} that it fills in itself, %% and $$ for the signs.
IN_SHELL = """\
ExecStart=/bin/bash -euo pipefail -c "source /opt/vllm/venv/bin/activate; BIND=127.0.0.1; \\
    # the whole network
    echo 'started at $$(date +%%s),\\tby ${MODEL}' >/dev/null; \\
    exec vllm serve \\"${MODEL}\\" --host ${BIND} \\
        --served-model-name \\"$${NAME:-phi-4-mini}\\" \\
        --port 8000"
"""
LISTENS = "for n in $(seq 50); do ss -ltn | grep -q '0.0.0.0:8000' && exit 0; sleep 0.1; done; exit 1"


@dataclass(frozen=True)
class Form:
    """The files that make it, the one that is edited, and what there gives way to what."""

    files: dict[str, File]
    path: str
    old: tuple[str, ...]
    new: tuple[str, ...]


def script(text: str) -> dict[str, File]:
    return {SCRIPT: File(text.encode(), 0o750, VLLM_ID, VLLM_ID)}


FORMS = {
    "variable-with-default": Form(
        script(DEFAULT), SCRIPT, ('"${HOST}" --', "ARGS:-}"), ("127.0.0.1 --", "ARGS:-} --host 127.0.0.1")
    ),
    "array": Form(script(ARRAY), SCRIPT, ("0.0.0.0",), ("127.0.0.1",)),
    "unit-without-script": Form({UNIT: File(IN_UNIT.encode())}, UNIT, ("${BIND}",), ("127.0.0.1",)),
    "drop-in": Form(
        {DROP_IN: File(f"[Service]\n{VARIABLES}\nExecStart=\nExecStart={SERVE}\n".encode(), 0o640)},
        DROP_IN,
        ("${BIND}",),
        ("127.0.0.1",),
    ),
    "program-of-a-shell": Form(
        {UNIT: File(VLLM_SERVICE.replace(f"ExecStart={SCRIPT}\n", f"{VARIABLES}\n{IN_SHELL}").encode())},
        UNIT,
        ("--host ${BIND}",),
        ("--host 127.0.0.1",),
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_vllm_is_bound_where_its_command_stands(attend: Callable[[ServerSpec], Operator], name: str) -> None:
    form = FORMS[name]
    operator = attend(ServerSpec(files=form.files))
    server, tcp = operator.server, operator.lab.outside.tcp
    assert tcp(server.address, 8000) == "open"
    before = server.get(form.path).decode()
    attributes = server.run(["stat", "-c", "%a %U:%G", form.path]).stdout
    wanted = before
    for old, new in zip(form.old, form.new, strict=True):
        wanted = wanted.replace(old, new)
    planned = operator.plan()
    document = operator.apply()
    assert troubles(document) == []
    assert document["exit_code"] == 0
    assert in_words(changes_of(planned)) == in_words(changes_of(document))
    assert server.get(form.path).decode() == wanted != before
    assert server.run(["stat", "-c", "%a %U:%G", form.path]).stdout == attributes
    assert "127.0.0.1:8000" in findings(document, "ok")["bind.listener"]
    again = operator.apply()
    assert (again["exit_code"], again["changed"]) == (0, False)
    # A start that nobody had a hand in takes the same address up.
    server.run(["systemctl", "restart", "vllm.service"])
    assert tcp(server.address, 8000, 0.5) == "filtered"
    assert operator.say("rollback --yes").code == 2
    assert operator.say("rollback --yes --expose").code == 0
    assert server.get(form.path).decode() == before
    assert server.run(["stat", "-c", "%a %U:%G", form.path]).stdout == attributes
    assert server.run(["sh", "-c", LISTENS]).code == 0


def test_run_killed_before_systemd_read_the_unit_is_completed(attend: Callable[[ServerSpec], Operator]) -> None:
    """The unit's file is right then, and systemd would restart vLLM with the old one."""
    operator = attend(ServerSpec(files=FORMS["unit-without-script"].files))
    server = operator.server
    server.put(UNIT, server.get(UNIT).replace(b"${BIND}", b"127.0.0.1"))
    document = operator.apply()
    assert troubles(document) == []
    commands = [change["argv"] for change in changes_of(document) if change["kind"] == "run"]
    restart = commands.index(["systemctl", "restart", "vllm.service"])
    assert commands[restart - 1] == ["systemctl", "daemon-reload"]
    assert "127.0.0.1:8000" in findings(document, "ok")["bind.listener"]


def test_restart_that_systemd_refuses_for_those_before_it_is_no_failure_of_vllms(secured: Operator) -> None:
    secured.server.run(restarted(5))
    document = secured.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])
    assert b"was started too often just now" in (secured.file(document["log_path"]) or b"")


def test_vllm_that_fails_and_was_started_often_runs_again_with_what_was_there_before(
    attend: Callable[[ServerSpec], Operator],
) -> None:
    """The start of the right script is refused, too: nobody is left without an API for that."""
    operator = attend(ServerSpec(standin={"fail": "loopback"}))
    operator.server.run(restarted(4))
    document = operator.apply()
    assert (document["exit_code"], document["failed"]) == (1, True)
    assert any("the old one is put back" in one for one in troubles(document)), troubles(document)
    assert b"--host 0.0.0.0" in operator.server.get(SCRIPT)
    assert b"was started too often just now" in (operator.file(document["log_path"]) or b"")
    operator.server.wait_until_up()
    assert "0.0.0.0:8000" in operator.server.run(["ss", "-Hltn"]).stdout
