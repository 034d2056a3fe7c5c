"""`key new`: vLLM gets a key where it has none, or another one; it is in the env file and nowhere else, and no undo
brings the old one back."""

import json
import re
from collections.abc import Callable

import pytest

from tests.lab import CANARY, ServerSpec
from tests.lab.killing import kill_at
from tests.lab.operator import Document, Operator, began, changes_of, findings, in_words, rows, troubles
from tests.lab.space import Deadline
from tests.lab.spec import START_VLLM, File
from tests.lab.test_secrets import disguises

pytestmark = pytest.mark.lab

Attend = Callable[[ServerSpec], Operator]
ENV = "/etc/vllm/vllm.env"
ROOT = "/etc/vllm-https-setup/root.crt"
SHOWN_BY = f"sudo grep VLLM_API_KEY {ENV}"
# All that is kept anywhere on the server, but for the env file, the list of processes, and what no program wrote.
KEPT = "/etc /home /opt /root /run /tmp /usr/local /var"
NEW = re.compile(r"sk-[0-9a-f]{64}")
# Works with the operator's own key alone.
PARTICULAR = START_VLLM.replace(
    "exec vllm", '[[ "$VLLM_API_KEY" == sk-lab* ]] || {{ echo "no such key" >&2; exit 1; }}\nexec vllm'
)


def key_of(operator: Operator) -> str:
    """As the operator reads it, by the command that the report names."""
    return operator.server.ssh(SHOWN_BY).stdout.strip().removeprefix("VLLM_API_KEY=")


def asked(operator: Operator, url: str, key: str = "", *words: str) -> str:
    """What another machine gets there, with this key or with none."""
    bearer = ["-H", f"Authorization: Bearer {key}"] if key else []
    argv = ["curl", "-s", "-o", "/dev/null", "-m", "10", "-w", "%{http_code}", *bearer, *words, url]
    return operator.lab.outside.run(argv, check=False).stdout


def assert_nowhere(operator: Operator, key: str, *said: str) -> None:
    """The key is in no file but the env file, in no journal, in nothing that was said."""
    forms = sorted(form.decode() for form in disguises(key))
    patterns = "\n".join(forms).encode() + b"\n"
    server = operator.server
    server.run(["sh", "-c", "cat >/dev/shm/forms; chmod 600 /dev/shm/forms"], stdin=patterns)
    found = server.run(["sh", "-c", f"grep -rlsaF -f /dev/shm/forms {KEPT}"], check=False).stdout.split()
    assert [path for path in found if path != ENV] == []
    logged = server.run(["sh", "-c", "journalctl -q --no-pager | grep -cF -f /dev/shm/forms"], check=False).stdout
    assert logged == "0\n"
    assert not any(form in text for form in forms for text in said)


def test_server_without_a_key_gets_one_then_another_and_no_undo_brings_the_old_one_back(attend: Attend) -> None:
    operator = attend(ServerSpec(api_key=None))
    server, direct = operator.server, f"http://{operator.server.address}:8000/v1/models"
    before = server.get(ENV)
    assert "sudo vllm-https-setup key new" in findings(operator.plan(), "blocked")["preflight.api_key"]
    assert asked(operator, direct) == "200", "anybody may ask"

    refused = operator.say("key new")
    assert (refused.code, "--yes" in refused.stderr, server.get(ENV) == before) == (2, True, True)
    said = operator.say("key new --yes")
    assert said.code == 0, said
    assert SHOWN_BY in said.stdout
    first = key_of(operator)
    assert NEW.fullmatch(first)
    assert server.get(ENV) == before + f"VLLM_API_KEY={first}\n".encode()
    assert server.run(["stat", "-c", "%a %U:%G", ENV]).stdout == "600 root:root\n"
    assert [asked(operator, direct, key) for key in ("", first)] == ["401", "200"]
    assert not (server.root / "etc/vllm-https-setup").exists(), "no answers of this server are made up"
    assert_nowhere(operator, first, said.stdout, said.stderr)

    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    document = operator.ask("key new --yes")
    assert (document["command"], document["exit_code"], document["changed"]) == ("key", 0, True), troubles(document)
    assert in_words(changes_of(document)) == [
        f"write {ENV}",
        "run systemctl restart vllm.service",
        "wait vLLM takes the new key, and the old one no more",
    ]
    assert {change["impact"] for change in changes_of(document)} == {"none", "restart vllm"}
    assert set(rows(document).values()) == {True}
    assert any(SHOWN_BY in warning for warning in document["warnings"])
    second = key_of(operator)
    assert NEW.fullmatch(second) and second != first
    assert server.get(ENV) == before + f"VLLM_API_KEY={second}\n".encode()
    place = operator.lab.outside.key.with_name("root-of-a-client.pem")
    place.write_bytes(server.get(ROOT))
    url = f"https://{server.address}/v1/models"
    assert [asked(operator, url, key, "--cacert", str(place)) for key in ("", first, second)] == ["401", "401", "200"]
    assert_nowhere(operator, first, json.dumps(document))
    assert_nowhere(operator, second, json.dumps(document))
    again = operator.apply()
    assert (again["exit_code"], again["changed"]) == (0, False), troubles(again)

    kept = operator.say("rollback --yes")
    assert (kept.code, "an older key is not brought back" in kept.stderr) == (1, True), kept
    ended = operator.ask("uninstall --yes --keep-bind")
    assert ended["exit_code"] == 0, troubles(ended)
    assert key_of(operator) == second
    server.run(["grep", "-q", second, "-s", f"/proc/{vllm(operator)}/environ"])
    assert_nowhere(operator, first)
    assert_nowhere(operator, second)


def vllm(operator: Operator) -> str:
    return operator.server.run(["systemctl", "show", "-P", "MainPID", "vllm.service"]).stdout.strip()


def answers_with(operator: Operator, key: str) -> None:
    until = Deadline("vLLM to answer with this key", 30)
    argv = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"Authorization: Bearer {key}"]
    while operator.server.run([*argv, "http://127.0.0.1:8000/v1/models"], check=False).stdout != "200":
        until.tick(0.2)


def test_key_that_vllm_fails_with_is_taken_back_and_a_run_that_is_killed_is_completed(attend: Attend) -> None:
    script = PARTICULAR.format(spec=ServerSpec()).encode()
    operator = attend(ServerSpec(files={"/opt/vllm/start-vllm.sh": File(script, 0o755, 990, 990)}))
    server, before = operator.server, operator.server.get(ENV)
    document = operator.ask("key new --yes")
    assert document["exit_code"] == 1
    assert any("the file is put back" in one and "no such key" in one for one in troubles(document)), document
    assert server.get(ENV) == before
    answers_with(operator, CANARY)

    server.put("/opt/vllm/start-vllm.sh", START_VLLM.format(spec=ServerSpec()).encode(), 0o755, "vllm:vllm")
    killed = kill_at(operator, began("systemctl restart vllm"), command="key new --yes")
    cut_off = key_of(operator)
    assert NEW.fullmatch(cut_off), "it was written, and vLLM may not have it yet"
    assert "the next key new completes it" in operator.say("runs").stdout
    document = completed(operator)
    assert (document["continued"], document["exit_code"]) == (killed, 0), troubles(document)
    assert key_of(operator) != cut_off
    answers_with(operator, key_of(operator))
    for key in (cut_off, CANARY):
        assert_nowhere_kept(operator, key)
    document = operator.apply()
    assert (document["exit_code"], document["continued"]) == (0, None), troubles(document)


def completed(operator: Operator) -> Document:
    return operator.ask("key new --yes")


def assert_nowhere_kept(operator: Operator, key: str) -> None:
    """In nothing that a run has kept."""
    place = "/var/lib/vllm-https-setup /var/log/vllm-https-setup /etc"
    found = operator.server.run(["sh", "-c", f"grep -rlsaF -e '{key}' {place}"], check=False).stdout
    assert found == ""
