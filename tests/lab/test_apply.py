"""The main job: an exposed server becomes a proven endpoint by one command, and stays one by the same command."""

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.lab import CANARY, Lab, Server, ServerSpec
from tests.lab.operator import Document, Operator, began, changes_of, done, in_words, troubles
from wizard.packets import PATIENCE_S

pytestmark = pytest.mark.lab

STEPS = ["preflight", "firewall", "bind", "caddy", "tls", "https_test"]
ROWS = [
    *("tls.handshake", "tls.trusted", "api.unauthorized", "api.models", "api.chat", "api.stream", "api.blocked"),
    *("net.closed", "net.open"),
]
# What a login and the final test's own requests leave behind: nothing that a run did.
LEFT_BY_LOGINS = ("/var/log/lastlog", "/var/log/wtmp", "/var/log/btmp", "/var/log/auth.log")
LEFT_BY_REQUESTS = ("/var/log/caddy/vllm-https.log",)
SHAPE: dict[str, Any] = {
    "schema_version": int,
    "command": str,
    "run": (str, type(None)),
    "continued": (str, type(None)),
    "exit_code": int,
    "changed": bool,
    "failed": bool,
    "steps": list,
    "tests": list,
    "endpoint": (dict, type(None)),
    "errors": list,
    "warnings": list,
    "log_path": (str, type(None)),
    "duration_s": (int, float),
}


def assert_healthy(document: Document) -> None:
    assert troubles(document) == []
    assert [row["id"] for row in document["tests"]] == ROWS
    assert document["exit_code"] == 0


def processes(server: Server) -> str:
    """What a restart, a start or a reload of a service would change."""
    units = ["vllm.service", "caddy.service", "ssh.service", "ufw.service"]
    asked = "Id,MainPID,InvocationID,ActiveEnterTimestampMonotonic,StateChangeTimestampMonotonic,NRestarts,ExecReload"
    return server.run(["systemctl", "show", "-p", asked, *units]).stdout


def curl(operator: Operator, host: str, path: str, *, key: bool = False, trusted: bool = True) -> tuple[int, str]:
    """Code and body of a client's request from another machine, which trusts the exported root alone."""
    outside = operator.lab.outside
    root = outside.key.with_name(f"{operator.server.name}-root.crt")
    root.write_text(operator.server.ssh("cat /etc/vllm-https-setup/root.crt").stdout)
    header = f'header = "Authorization: Bearer {CANARY}"\n' if key else ""
    argv = ["curl", "-sS", "-K", "-", "-w", "\n%{http_code}", "--path-as-is"]
    argv += ["--resolve", f"{operator.server.name}:443:{operator.server.address}", f"https://{host}{path}"]
    if trusted:
        argv += ["--cacert", str(root)]
    said = outside.run(argv, stdin=header.encode(), check=False)
    body, _, code = said.stdout.rpartition("\n")
    return int(code), body


def test_exposed_server_becomes_a_proven_endpoint(operator: Operator) -> None:
    server, tcp = operator.server, operator.lab.outside.tcp
    assert [tcp(server.address, port) for port in (22, 8000, 443)] == ["open", "open", "refused"]
    start = time.monotonic()
    document = operator.apply()
    print(
        f"apply took {time.monotonic() - start:.2f} s from outside, {document['duration_s']:.2f} s by its own account"
    )
    for step in document["steps"]:
        print(f"  {step['id']}: {step['duration_s']:.2f} s")
    assert_healthy(document)
    assert document["changed"] is True
    assert [step["status"] for step in document["steps"]] == ["ok", *["changed"] * 4, "ok"]
    for address in (server.address, server.address6):
        assert [tcp(address, port, 0.5) for port in (22, 443, 8000, 80)] == ["open", "open", "filtered", "filtered"]
    assert b"--host 127.0.0.1" in server.get("/opt/vllm/start-vllm.sh")
    assert server.run(["stat", "-c", "%a %U:%G", "/opt/vllm/start-vllm.sh"]).stdout == "755 vllm:vllm\n"


def test_document_of_a_run_has_the_contracts_shape(operator: Operator) -> None:
    document = operator.apply()
    assert list(document) == list(SHAPE)
    for key, kind in SHAPE.items():
        assert isinstance(document[key], kind), key
    assert (document["schema_version"], document["command"], document["failed"]) == (1, "apply", False)
    assert [step["id"] for step in document["steps"]] == STEPS
    for step in document["steps"]:
        assert list(step) == ["id", "title", "status", "duration_s", "findings", "changes"]
        for finding in step["findings"]:
            assert list(finding) == ["key", "level", "summary", "remedy", "evidence"]
            assert finding["key"].partition(".")[0] == step["id"]
        for change in step["changes"]:
            kinds = {"run": "argv", "write": "diff", "remove": "diff", "wait": "timeout_s"}
            assert {"kind", "why", "impact", kinds[change["kind"]]} <= set(change)
            assert change["impact"] in ("none", "reload caddy", "restart caddy", "restart vllm")
    for row in document["tests"]:
        assert {"id", "ok", "detail", "ms"} <= set(row)
    address = operator.server.address
    ca_file = "/etc/vllm-https-setup/root.crt"
    assert document["endpoint"] == {"base_url": f"https://{address}/v1", "model": "phi-4-mini", "ca_file": ca_file}
    assert document["run"] == operator.runs()[-1]
    assert document["log_path"] == f"/var/log/vllm-https-setup/{document['run']}.log"
    log = (operator.file(document["log_path"]) or b"").decode()
    fetched = re.search(r"- beside the steps: Get:\d+ https://dl\.cloudsmith\.io/.* amd64 caddy amd64", log)
    assert fetched and fetched.start() < log.index("Unpacking caddy"), "Caddy's package is fetched before its turn"
    assert log.count("amd64 caddy amd64") == 1, "and once"
    assert operator.server.run(["ls", "/run/vllm-https-setup"]).stdout == "lock\n"


LISTS = (
    "cd /var/lib/apt/lists; stat -c '%n %a %U:%G %Y' *_*; stat -c '%n %a %U:%G' . lock partial; "
    "sha256sum *_*; ls partial"
)


def test_index_that_was_fetched_ahead_is_as_an_update_leaves_it(operator: Operator) -> None:
    document = operator.apply()
    log = (operator.file(document["log_path"]) or b"").decode()
    (update,) = [line for line in log.splitlines() if "apt-get update" in line]
    assert "- beside the steps: $ " in update, "and not again in its turn"
    server = operator.server
    left = server.run(["sh", "-ec", LISTS]).stdout
    (planned,) = [
        one["argv"] for step in document["steps"] for one in step["changes"] if "update" in one.get("argv", ())
    ]
    said = server.run(planned).stdout
    assert "Hit:" in said and "Get:" not in said
    assert server.run(["sh", "-ec", LISTS]).stdout == left
    assert "500 https://dl.cloudsmith.io/public/caddy" in server.run(["apt-cache", "policy", "caddy"]).stdout


def test_caddy_starts_once_and_with_our_configuration(operator: Operator) -> None:
    """Its package would have it serve a page of welcome on port 80 until then."""
    operator.apply()
    server = operator.server
    said = server.run(["journalctl", "-u", "caddy", "-o", "cat", "--no-pager"]).stdout
    assert said.count("Started caddy.service") == 1 and "Reload" not in said
    assert "only on the HTTP port" not in said
    shown = server.run(["systemctl", "show", "caddy", "-p", "UnitFileState,NeedDaemonReload,WantedBy"]).stdout
    assert sorted(shown.split()) == ["NeedDaemonReload=no", "UnitFileState=enabled", "WantedBy=multi-user.target"]


def test_clients_that_trust_the_root_get_in_with_the_key_alone(secured: Operator) -> None:
    server = secured.server
    for host in (server.address, f"[{server.address6}]", server.name):
        assert curl(secured, host, "/v1/models")[0] == 401
        code, body = curl(secured, host, "/v1/models", key=True)
        assert (code, json.loads(body)["data"][0]["id"]) == (200, "phi-4-mini")
    assert curl(secured, server.address, "/v1/models", key=True, trusted=False)[0] == 0


def test_no_answer_names_the_program_that_gave_it_and_each_of_the_site_says_what_browsers_may_do(
    secured: Operator,
) -> None:
    """vLLM's own, those that Caddy makes of an error, and the one to a foreign host."""
    key = f"Authorization: Bearer {CANARY}"
    url = f"https://{secured.server.address}"
    for path, header, code in (
        ("/v1/models", key, 200),
        ("/v1/models", "Authorization: none", 401),
        ("/docs", key, 404),
        ("/v1/models", "Host: elsewhere.test", 404),
    ):
        argv = ["curl", "-sk", "-K", "-", "-i", url + path]
        said = secured.lab.outside.run(argv, stdin=f'header = "{header}"\n'.encode())
        head = said.stdout.partition("\r\n\r\n")[0].lower()
        assert head.split()[1] == str(code), head
        assert "\nserver:" not in head, head
        assert ("x-content-type-options: nosniff" in head) is ("elsewhere" not in header), head


@pytest.mark.parametrize("path", ["/", "/health", "/metrics", "/docs", "/openapi.json", "/invocations", "/v1/../docs"])
def test_nothing_but_v1_is_served(secured: Operator, path: str) -> None:
    code, body = curl(secured, secured.server.address, path, key=True)
    assert code == 404
    assert json.loads(body)["error"]["code"] == 404


def test_apply_again_changes_nothing_and_starts_no_run(secured: Operator) -> None:
    server = secured.server
    runs, before, running = secured.runs(), server.snapshot(), processes(server)
    words = server.run(["journalctl", "-o", "cat", "-u", "caddy", "-u", "vllm", "--no-pager"]).stdout
    start = time.monotonic()
    document = secured.apply()
    print(f"with nothing to do: {time.monotonic() - start:.2f} s, {document['duration_s']:.2f} s by its own account")
    assert_healthy(document)
    assert (document["changed"], document["run"], document["log_path"]) == (False, None, None)
    assert changes_of(document) == []
    assert processes(server) == running
    assert secured.runs() == runs
    told = server.run(["journalctl", "-o", "cat", "-u", "caddy", "-u", "vllm", "--no-pager"]).stdout
    new = told.removeprefix(words)
    assert not any(word in new for word in ("Reload", "/load", "Start", "Stopp")), new
    differences = before.differences(server.snapshot())
    allowed = (*LEFT_BY_LOGINS, *LEFT_BY_REQUESTS)
    assert [line for line in differences if not line.startswith(allowed)] == []


def test_views_of_a_secured_server_agree(secured: Operator) -> None:
    for words in ("status", "test"):
        document = secured.ask(words)
        assert_healthy(document)
        assert (document["command"], document["run"], document["changed"]) == (words, None, False)
    assert {finding["level"] for step in secured.ask("status")["steps"] for finding in step["findings"]} == {"ok"}
    repaired = secured.ask("repair")
    assert_healthy(repaired)
    assert changes_of(repaired) == []


def test_runs_and_log_tell_what_was_done(secured: Operator) -> None:
    first = secured.runs()[0]
    listed = secured.say("runs")
    assert listed.code == 0
    (line,) = [line for line in listed.stdout.splitlines() if line.startswith(first)]
    assert "apply" in line
    assert "exit code 0, changed this server" in line
    log = secured.say(f"log {first}")
    assert log.code == 0
    kept = secured.file(f"/var/log/vllm-https-setup/{first}.log")
    assert kept is not None
    assert log.stdout == kept.decode()
    for change in done(secured.events(first)):
        assert change["why"] in log.stdout
        assert change.get("path", "") in log.stdout
    for command in ("$ ufw allow 22/tcp comment SSH", "$ systemctl restart vllm.service", "apt-get install"):
        assert command in log.stdout
    assert "ended with exit code 0" in log.stdout.splitlines()[-1]
    assert secured.say("log 20000101T000000Z-0000").code == 2


def test_log_follows_a_run_to_its_end(operator: Operator) -> None:
    with operator.start() as apply:
        operator.wait_for(began("ufw allow 22/tcp"))
        with operator.start("log --follow") as following:
            told = following.end()
        assert apply.end().code == 0
    assert told.code == 0
    kept = operator.file(f"/var/log/vllm-https-setup/{operator.runs()[-1]}.log")
    assert kept is not None
    assert told.stdout == kept.decode()


EDITED = "sed -i 's/--host 127.0.0.1/--host 0.0.0.0/' /opt/vllm/start-vllm.sh"
OTHER_CONFIG = (
    "curl -sf -X POST -H 'Content-Type: application/json' http://localhost:2019/load -d "
    '\'{"admin":{"listen":"localhost:2019"}}\''
)
VLLM_BACK = ["run systemctl restart vllm.service", "wait vLLM answers on 127.0.0.1:8000"]
KEYRING = "/usr/share/keyrings/caddy-stable-archive-keyring.gpg"
CADDY_ROOT = "/var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt"
APT_LIST = "/etc/apt/sources.list.d/caddy-stable.list"
# what went wrong -> the command that makes it so, the step that puts it right, and its smallest change
DRIFTS: dict[str, tuple[str, str, list[str]]] = {
    "ufw off": ("ufw disable", "firewall", ["run ufw --force enable"]),
    "443 closed": ("ufw delete allow 443/tcp", "firewall", ["run ufw allow 443/tcp comment HTTPS"]),
    "rules not loaded": ("nft flush ruleset", "firewall", ["run ufw reload"]),
    "incoming allowed": ("ufw default allow incoming", "firewall", ["run ufw default deny incoming"]),
    "script edited": (EDITED, "bind", ["write /opt/vllm/start-vllm.sh"]),
    "exposed again": (
        f"{EDITED}; systemctl restart vllm; until ss -Hltn | grep -q 0.0.0.0:8000; do sleep 0.05; done",
        "bind",
        ["write /opt/vllm/start-vllm.sh", *VLLM_BACK],
    ),
    "vLLM stopped": (
        "systemctl stop vllm",
        "preflight",
        ["run systemctl start vllm.service", "wait vLLM answers"],
    ),
    "caddy off at boot": ("systemctl disable -q caddy", "caddy", ["run systemctl enable caddy.service"]),
    "keyring gone": (f"rm {KEYRING}", "caddy", [f"write {KEYRING}"]),
    "list gone": (f"rm {APT_LIST}", "caddy", [f"write {APT_LIST}"]),
    "caddy stopped": ("systemctl stop caddy", "tls", ["run systemctl reload-or-restart caddy.service"]),
    "Caddyfile edited": (
        "echo '# mine' >>/etc/caddy/Caddyfile",
        "tls",
        ["write /etc/caddy/Caddyfile", "run systemctl reload-or-restart caddy.service"],
    ),
    "Caddy runs another configuration": (
        OTHER_CONFIG,
        "tls",
        ["run systemctl reload-or-restart caddy.service"],
    ),
    "root not exported": (
        "rm /etc/vllm-https-setup/root.crt",
        "tls",
        [f"run install -D -m 0644 {CADDY_ROOT} /etc/vllm-https-setup/root.crt"],
    ),
}
SAFETY = ("vllm-https-setup", "SSH proved")


def own_changes(step: str, changes: list[Document]) -> list[str]:
    """The changes of a step; the firewall's without the undo that is armed before and taken away after."""
    words = in_words(changes)
    return [one for one in words if not any(part in one for part in SAFETY)] if step == "firewall" else words


@pytest.mark.parametrize("drift", DRIFTS)
def test_drift_is_put_right_by_the_smallest_change_as_planned(secured: Operator, drift: str) -> None:
    command, step, smallest = DRIFTS[drift]
    server = secured.server
    server.run(["sh", "-c", command])
    plan = secured.plan()
    assert "drift" in {finding["level"] for one in plan["steps"] if one["id"] == step for finding in one["findings"]}
    kept = running_of(server, "vllm.service" if step not in ("bind", "preflight") else "caddy.service")
    document = secured.apply()
    assert_healthy(document)
    assert {one["id"]: own_changes(one["id"], one["changes"]) for one in document["steps"] if one["changes"]} == {
        step: smallest
    }
    assert done(secured.events(document["run"])) == changes_of(plan)
    assert running_of(server, "vllm.service" if step not in ("bind", "preflight") else "caddy.service") == kept


def running_of(server: Server, unit: str) -> str:
    return server.run(["systemctl", "show", "-P", "MainPID", unit]).stdout


def test_script_that_says_another_address_is_put_right_without_a_restart(
    attend: Callable[[ServerSpec], Operator],
) -> None:
    operator = attend(ServerSpec(vllm_host="127.0.0.1"))
    operator.server.run(["sed", "-i", "s/--host 127.0.0.1/--host 0.0.0.0/", "/opt/vllm/start-vllm.sh"])
    before = running_of(operator.server, "vllm.service")
    document = operator.apply()
    assert_healthy(document)
    assert {one["id"]: in_words(one["changes"]) for one in document["steps"] if one["id"] == "bind"} == {
        "bind": ["write /opt/vllm/start-vllm.sh"]
    }
    assert running_of(operator.server, "vllm.service") == before


# The kernel's own, of a pair of interfaces that is not quite up yet: now and then it drops the first that comes.
FIRST_LOOKUP_LOST = """nft 'table ip6 lost { chain in { type filter hook input priority -300; \
iifname "vhs-out" icmpv6 type nd-neighbor-solicit limit rate 1/hour burst 1 packets drop; }; }'"""


def test_lookup_of_a_neighbour_that_is_lost_is_made_again_within_one_try(secured: Operator) -> None:
    """The kernel's second one comes after a second: three tries for nothing, and a proof that takes as long."""
    secured.server.run(["sh", "-ec", FIRST_LOOKUP_LOST])
    try:
        tested = secured.ask("test")
        lost = secured.server.run(["nft", "list", "table", "ip6", "lost"]).stdout
    finally:
        secured.server.run(["nft", "delete", "table", "ip6", "lost"])
    (row,) = (row for row in tested["tests"] if row["id"] == "net.open")
    assert (row["ok"], row["ms"] < PATIENCE_S * 1000) == (True, True), (row, lost)


def test_answers_are_kept_for_repair(secured: Operator, lab: Lab) -> None:
    kept = secured.server.run(["cat", "/etc/vllm-https-setup/answers.yaml"]).stdout
    assert kept == secured.server.run(["cat", "/home/operator/answers.yaml"]).stdout
    assert lab.key_fingerprint in kept
    modes = secured.server.run(["stat", "-c", "%a %U", "/etc/vllm-https-setup/answers.yaml"]).stdout
    assert modes == "600 root\n"


def test_firewall_that_is_not_ours_to_manage_is_not_touched(attend: Callable[[ServerSpec], Operator]) -> None:
    """`firewall: {manage: false}`: rules, files, units and state stay; what is open all the same is said."""
    operator = attend(ServerSpec(ufw_rules=("allow 22/tcp", "allow 443/tcp"), ufw_enabled=True))
    operator.answer(firewall={"manage": False})
    tell = "iptables-save | grep ^-A; ufw status verbose; sha256sum /etc/ufw/*.rules /etc/ufw/ufw.conf /etc/default/ufw"
    before = operator.server.run(["sh", "-c", tell]).stdout
    document = operator.apply()
    assert (troubles(document), document["exit_code"]) == ([], 0)
    assert operator.server.run(["sh", "-c", tell]).stdout == before
    assert [line for line in in_words(changes_of(document)) if "ufw" in line or "revert" in line] == []
    assert operator.server.ssh("echo in").stdout == "in\n"
    assert operator.lab.outside.tcp(operator.server.address, 443) == "open"
