"""A plan changes nothing, and says exactly what the run that follows it does."""

from collections.abc import Callable

import pytest

from tests.lab import Server, ServerSpec
from tests.lab.operator import Document, Operator, changes_of, comparable, done, in_words, troubles

pytestmark = pytest.mark.lab

Attend = Callable[[ServerSpec], Operator]
# What sshd and sudo write at any login, whatever is typed there.
LEFT_BY_LOGINS = ("/var/log/lastlog", "/var/log/wtmp", "/var/log/btmp", "/var/log/auth.log")
# What Caddy writes about requests: `status` and `test` send some.
LEFT_BY_REQUESTS = ("/var/log/caddy/vllm-https.log",)


def state(server: Server) -> tuple[str, str, str]:
    """What is not on disk: units, links to other namespaces, and what apt and the kernel keep in memory."""
    units = server.run(["systemctl", "list-units", "--all", "--no-legend", "--plain", "--full", "--type=service,timer"])
    links = server.run(["ip", "-o", "link"]).stdout
    # a login's own session and user manager come and go
    kept = [line for line in units.stdout.splitlines() if not line.startswith(("user", "session", "ssh", "systemd-"))]
    return "\n".join(kept), links, server.run(["find", "/run/vllm-https-setup", "/tmp", "/var/tmp"], check=False).stdout


def test_looking_at_a_server_that_was_never_set_up_changes_nothing(operator: Operator) -> None:
    server = operator.server
    server.ssh("sudo true")
    before, running = server.snapshot(), state(server)
    planned = operator.plan()
    assert planned["exit_code"] == 0
    assert len(changes_of(planned)) > 20
    assert [step["status"] for step in planned["steps"]] == ["ok", *["changed"] * 4, "skipped"]
    assert operator.say("plan --answers answers.yaml --detailed-exitcode").code == 6
    assert operator.say("plan --answers answers.yaml").stdout.endswith("Nothing was changed.\n")
    assert operator.say("status").code == 1
    assert operator.say("test").code == 2
    assert operator.say("runs").stdout == ""
    differences = before.differences(server.snapshot())
    assert [line for line in differences if not line.startswith(LEFT_BY_LOGINS)] == []
    assert state(server) == running


def test_looking_at_a_secured_server_changes_nothing(secured: Operator) -> None:
    server = secured.server
    before, running = server.snapshot(), state(server)
    assert secured.say("plan --detailed-exitcode").code == 0
    for words in ("plan", "status", "test"):
        assert secured.ask(words)["exit_code"] == 0
        assert secured.say(words).code == 0
    differences = before.differences(server.snapshot())
    assert [line for line in differences if not line.startswith((*LEFT_BY_LOGINS, *LEFT_BY_REQUESTS))] == []
    assert state(server) == running


def assert_run_keeps(operator: Operator, plan: Document) -> None:
    """Apply does what the plan said, in that order, and its report and its journal say the same."""
    document = operator.apply()
    assert (troubles(document), document["exit_code"]) == ([], 0)
    journal = done(operator.events(document["run"]))
    assert in_words(journal) == in_words(changes_of(plan))
    assert comparable(journal) == comparable(changes_of(plan))
    assert journal == changes_of(document)
    for planned, applied in zip(plan["steps"], document["steps"], strict=True):
        if planned["id"] != "https_test":
            assert (planned["id"], planned["status"]) == (applied["id"], applied["status"])


STARTS = {
    "fresh": ServerSpec(),
    "ssh allowed, firewall on": ServerSpec(ufw_enabled=True, ufw_rules=("allow 22/tcp",)),
    "on loopback, packages there": ServerSpec(vllm_host="127.0.0.1", guide_packages=True),
    "no ufw, no host named": ServerSpec(ufw_installed=False, vllm_host="::"),
    "ssh by socket": ServerSpec(ssh_socket=True, ssh_port=2222),
}


@pytest.mark.parametrize("start", STARTS)
def test_run_does_what_the_plan_said(attend: Attend, start: str) -> None:
    operator = attend(STARTS[start])
    assert_run_keeps(operator, operator.plan())


# what an operator, or the guide followed halfway, has left: all of it before the plan is made
HALVES = {
    "caddy installed": (
        "curl -1sLf https://dl.cloudsmith.io/public/caddy/stable/gpg.key | gpg --dearmor "
        "-o /usr/share/keyrings/caddy-stable-archive-keyring.gpg;"
        "curl -1sLf https://dl.cloudsmith.io/public/caddy/stable/debian.deb.txt "
        "-o /etc/apt/sources.list.d/caddy-stable.list;"
        "chmod a+r /usr/share/keyrings/*.gpg; apt-get -q update; apt-get -qy install caddy"
    ),
    "firewall set but off": "ufw allow 443/tcp; ufw allow OpenSSH || ufw allow 22/tcp; ufw default allow incoming",
    "vLLM stopped": "systemctl stop vllm",
    "script edited, vLLM not restarted": "sed -i s/0.0.0.0/127.0.0.1/ /opt/vllm/start-vllm.sh",
}


@pytest.mark.parametrize("half", HALVES)
def test_run_on_a_half_done_server_does_what_the_plan_said(operator: Operator, half: str) -> None:
    operator.server.run(["sh", "-c", HALVES[half]])
    assert_run_keeps(operator, operator.plan())


def test_run_after_much_drift_does_what_the_plan_said(secured: Operator) -> None:
    secured.server.run(["ufw", "disable"])
    secured.server.run(["sed", "-i", "s/127.0.0.1/0.0.0.0/", "/opt/vllm/start-vllm.sh"])
    secured.server.run(["systemctl", "restart", "vllm"])
    secured.server.run(["sh", "-c", "echo ':80' >/etc/caddy/Caddyfile; systemctl stop caddy"])
    secured.server.run(["rm", "/etc/apt/sources.list.d/caddy-stable.list", "/etc/vllm-https-setup/root.crt"])
    assert_run_keeps(secured, secured.plan())
