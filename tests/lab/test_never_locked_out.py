"""Nobody is locked out: from where the operator comes SSH lets new logins in, at every moment of every run."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.lab import ServerSpec
from tests.lab.operator import ANSWERS, Document, Operator, began, troubles
from tests.lab.space import OUTSIDE
from tests.lab.spec import File
from tests.lab.unchanged import assert_blocked
from tests.lab.ways_in import Watch

pytestmark = pytest.mark.lab

Attend = Callable[[ServerSpec], Operator]

MORE = "/home/operator/more.yaml"
SCRIPT = "/opt/vllm/start-vllm.sh"
APPLY, UNINSTALL = "apply --answers answers.yaml", "uninstall --yes --expose"
# One rule more, which the rollback takes back.
APPLY_MORE, ROLLBACK = f"apply --answers {MORE}", "rollback --yes"

# What Docker makes at its start, with one published port.
DOCKER = """\
iptables -N DOCKER; iptables -N DOCKER-USER; iptables -P FORWARD DROP
iptables -A FORWARD -j DOCKER-USER; iptables -A FORWARD -o docker0 -j DOCKER
iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
iptables -A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp --dport 80 -j ACCEPT
iptables -A DOCKER-USER -j RETURN
iptables -t nat -N DOCKER
iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
iptables -t nat -A DOCKER ! -i docker0 -p tcp --dport 8090 -j DNAT --to-destination 172.17.0.2:80
"""
NFT = """\
nft -f - <<'end'
table inet own {
  chain input {
    type filter hook input priority -10; policy accept;
    tcp dport 22 counter accept
    tcp dport 9999 drop
  }
}
end
"""
OUTGOING = tuple(f"allow out {port}" for port in ("53", "80/tcp", "443/tcp"))


@dataclass(frozen=True)
class Start:
    """How a server stands before the first run; `commands` are typed on it when it is up."""

    spec: ServerSpec
    commands: str = ""
    ports: tuple[int, ...] = (22,)
    limited: bool = False
    more: tuple[str, ...] = ()  # between apply and uninstall


def sshd(text: str) -> dict[str, File]:
    return {"/etc/ssh/sshd_config.d/own.conf": File(text.encode())}


STARTS = {
    "firewall off": Start(ServerSpec(), more=(APPLY_MORE, ROLLBACK)),
    "firewall on, SSH allowed": Start(
        ServerSpec(ufw_enabled=True, ufw_rules=("allow 22/tcp",)), more=(APPLY_MORE, ROLLBACK)
    ),
    "another port": Start(ServerSpec(ssh_port=2222), ports=(2222,)),
    "two ports": Start(ServerSpec(ssh_port=2222, files=sshd("Port 22\n")), ports=(22, 2222)),
    "ssh.socket": Start(ServerSpec(ssh_socket=True)),
    "IPv6 alone": Start(ServerSpec(by_ipv6=True, files=sshd("AddressFamily inet6\n"))),
    "limit": Start(ServerSpec(ufw_enabled=True, ufw_rules=("limit 22/tcp",)), limited=True),
    "from the operator's address": Start(
        ServerSpec(ufw_enabled=True, ufw_rules=(f"allow from {OUTSIDE} to any port 22 proto tcp",))
    ),
    "defaults the other way round": Start(
        ServerSpec(ufw_enabled=True, ufw_rules=("default allow incoming", "default deny outgoing", *OUTGOING))
    ),
    "Docker's chains": Start(ServerSpec(), DOCKER),
    "own nftables rules": Start(ServerSpec(), NFT),
}


def say_all(operator: Operator, *commands: str) -> list[Document]:
    """All of them in one login, for a limit counts those: their documents."""
    line = "; ".join(f"sudo vllm-https-setup {command} --json" for command in commands)
    text = operator.server.ssh(line, check=False, timeout=300).stdout
    found: list[Document] = []
    while text := text.strip():
        document, end = json.JSONDecoder().raw_decode(text)
        found.append(document)
        text = text[end:]
    return found


def troubles_of_steps(document: Document) -> list[str]:
    """What went wrong with the server: neither the pace of its answers, nor what a rule by source leaves unknown."""
    known = tuple(f"{row['id']}: " for row in document["tests"] if row["ok"] is None)
    return [line for line in troubles(document) if not line.startswith(("warning: ", "api.", *known))]


@pytest.mark.parametrize("start", STARTS)
def test_operator_gets_in_at_every_moment_of_apply_rollback_and_uninstall(attend: Attend, start: str) -> None:
    begin = STARTS[start]
    operator = attend(begin.spec)
    if begin.commands:
        operator.server.run(["sh", "-euc", begin.commands])
    operator.answer(firewall={"allow": [{"port": 9100}]})
    operator.server.run(["mv", ANSWERS, MORE])
    operator.answer()
    with Watch(operator.lab, operator.server, begin.ports, limited=begin.limited) as watch:
        documents = say_all(operator, APPLY, *begin.more, UNINSTALL)
    assert watch.problems == []
    assert [(one["failed"], one["changed"], troubles_of_steps(one)) for one in documents] == [(False, True, [])] * (
        2 + len(begin.more)
    )
    assert len(watch.rules.seen) > 2, "the firewall was seen to change"
    print(f"{start}: {watch}")


# A table that lets the operator in and nobody else: a packet from elsewhere can't show that SSH is open.
STRICT = f"""\
nft -f - <<'end'
table inet strict {{
  chain input {{
    type filter hook input priority -10; policy drop;
    ct state established,related accept
    iif lo accept
    ip saddr {OUTSIDE} tcp dport 22 accept
  }}
}}
end
"""


def test_where_it_cannot_be_sure_the_firewall_is_as_it_was(attend: Attend) -> None:
    keeps_out = f"deny from {OUTSIDE} to any port 22 proto tcp"
    operator = attend(ServerSpec(ufw_rules=(keeps_out,)))
    server = operator.server
    assert_blocked(operator, "firewall.denied", (f"a rule of yours denies 22/tcp from {OUTSIDE}",))
    server.run(["ufw", "delete", *keeps_out.split()])

    server.run(["sh", "-euc", STRICT])
    operator.answer(firewall={"safety_seconds": 10})
    script = server.get(SCRIPT)
    document = operator.apply()
    assert document["exit_code"] == 1
    assert "The firewall was put back as it was before." in " ".join(troubles(document))
    assert server.run(["ufw", "status"]).stdout == "Status: inactive\n"
    assert server.run(["ufw", "show", "added"]).stdout.splitlines()[1:] == ["(None)"]
    assert server.get(SCRIPT) == script, "no later step was begun"
    assert server.ssh("echo in").stdout == "in\n"


def test_power_loss_within_uninstall_brings_the_firewall_back_and_the_next_takes_it_away(attend: Attend) -> None:
    operator = attend(ServerSpec())
    server = operator.server
    assert operator.apply()["failed"] is False
    allowed = server.run(["ufw", "show", "added"]).stdout
    with operator.start(UNINSTALL) as typed:
        operator.wait_for(began("ufw delete allow 22/tcp"))
        server.kill()
        typed.cut()
    server.run(["systemctl", "is-system-running", "--wait"], check=False)
    assert server.ssh("echo in").stdout == "in\n"
    assert "Status: active" in server.run(["ufw", "status"]).stdout
    assert sorted(server.run(["ufw", "show", "added"]).stdout.splitlines()) == sorted(allowed.splitlines())
    document = operator.ask(UNINSTALL)
    assert (document["exit_code"], troubles(document)) == (0, [])
    assert server.run(["ufw", "status"]).stdout == "Status: inactive\n"
    assert server.run(["ufw", "show", "added"]).stdout.splitlines()[1:] == ["(None)"]
