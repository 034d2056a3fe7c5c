"""Servers on which other programs rule packets and ports already, the real ones: what is said of them, whether what is
said helps, and what packets from another machine really meet."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import Lab, ServerSpec
from tests.lab.operator import Operator, findings, rows, troubles
from tests.lab.space import Deadline
from tests.lab.unchanged import assert_blocked, left
from tests.servers.preflight_states import DOCKER, NFTABLES_REFUSE, PUBLISH

pytestmark = pytest.mark.lab

Attend = Callable[[ServerSpec], Operator]
LISTENER = "import signal, socket; s = socket.create_server(('0.0.0.0', 7000)); signal.pause()"
# A peer that is reached through this server alone, as one of a VPN is.
PEER = f"""\
ip netns add peer
ip link add wg0 type veth peer name eth0 netns peer
ip address add 10.99.0.1/24 dev wg0
ip link set wg0 up
ip -n peer address add 10.99.0.2/24 dev eth0
ip -n peer link set eth0 up
ip -n peer route add default via 10.99.0.1
sysctl -qw net.ipv4.ip_forward=1
systemd-run -q --unit=peer ip netns exec peer python3 -c "{LISTENER}"
until ip netns exec peer ss -Hltn | grep -q :7000; do sleep 0.05; done
"""
WITH_TLS = "sed -i 's/listen 80 default_server;/& listen 443;/' /etc/nginx/sites-enabled/default"


def shell(operator: Operator, text: str) -> str:
    return operator.server.run(["sh", "-euc", text]).stdout


def meets(operator: Operator, *ports: int) -> dict[int, str]:
    """What a machine elsewhere meets at these ports."""
    return {port: operator.lab.outside.tcp(operator.server.address, port, 0.7) for port in ports}


def remedy(text: str, begin: str, end: str) -> str:
    """The command in a remedy that begins and ends so, without sudo."""
    assert begin in text, text
    return begin + text.partition(begin)[2].partition(end)[0]


def test_nginx_on_both_ports_blocks_and_what_is_said_helps(attend: Attend) -> None:
    operator = attend(ServerSpec(packages=("nginx",)))
    shell(operator, f"{WITH_TLS}; systemctl restart nginx")
    assert meets(operator, 80, 443) == {80: "open", 443: "open"}
    stop = "sudo systemctl disable --now nginx.service"
    assert_blocked(operator, "preflight.web_ports", ("nginx (nginx.service) listens on port 80 and 443", stop))
    assert meets(operator, 80, 443) == {80: "open", 443: "open"}
    operator.server.ssh(stop)
    assert operator.plan()["exit_code"] == 0


def test_firewalld_blocks_and_either_way_out_of_it_works(attend: Attend) -> None:
    operator = attend(ServerSpec(packages=("firewalld",)))
    assert_blocked(operator, "preflight.firewalld", ("firewalld runs here", "manage: false", "disable --now firewalld"))
    operator.answer(firewall={"manage": False})
    document = operator.apply()
    assert (document["exit_code"], document["changed"]) == (0, True), troubles(document)
    assert meets(operator, 22, 443, 8000) == {22: "open", 443: "filtered", 8000: "filtered"}
    (opened,) = (row["detail"] for row in document["tests"] if row["id"] == "net.open")
    assert "443 filtered; what is not open is closed by the firewall that you manage" in opened
    shell(operator, "firewall-cmd -q --permanent --add-service=https; firewall-cmd -q --reload")
    assert meets(operator, 443, 8000) == {443: "open", 8000: "filtered"}
    assert "443 open" in next(row["detail"] for row in operator.ask("test")["tests"] if row["id"] == "net.open")
    operator.answer()
    shell(operator, "systemctl disable -q --now firewalld")
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert meets(operator, 22, 443, 8000) == {22: "open", 443: "open", 8000: "filtered"}


def test_rules_that_ufws_package_would_remove_block_until_somebody_has_decided(attend: Attend) -> None:
    operator = attend(ServerSpec(ufw_installed=False, packages=("iptables-persistent",)))
    server = operator.server
    words = ("iptables-persistent and netfilter-persistent", "installing ufw would remove them", "manage: false")
    assert "iptables-persistent" in server.run(["apt-get", "install", "-s", "ufw"]).stdout.partition("REMOVED")[2]
    assert_blocked(operator, "preflight.netfilter_persistent", words)
    told = findings(operator.plan(), "blocked")["preflight.netfilter_persistent"]
    operator.server.ssh(f"sudo DEBIAN_FRONTEND=noninteractive {remedy(told, 'apt-get remove', ';')} -y -q")
    document = operator.plan()
    assert document["exit_code"] == 0, troubles(document)
    assert "firewall.package" in findings(document, "drift")


def test_table_of_nftables_and_a_vpns_peer_are_told_as_packets_meet_them(attend: Attend, lab: Lab) -> None:
    operator = attend(ServerSpec())
    server = operator.server
    shell(operator, f"nft -f - <<'END'\n{NFTABLES_REFUSE}END\n{PEER}")
    lab.outside.run(["ip", "route", "replace", "10.99.0.0/24", "via", server.address])
    assert lab.outside.tcp("10.99.0.2", 7000) == "open"
    assert_blocked(operator, "preflight.nftables", ("table inet mine refuses 443/tcp", "policy drop", "nft list table"))
    told = findings(operator.plan(), "blocked")["preflight.nftables"]
    server.ssh(f"sudo {remedy(told, 'nft insert rule', ';')}")
    planned = findings(operator.plan(), "warn")
    assert "a packet must pass both" in planned["preflight.nftables"]
    assert "WireGuard (wg0); ufw, once it is on, drops those" in planned["preflight.forwarding"]
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert set(rows(document).values()) == {True}
    assert meets(operator, 22, 443, 8000) == {22: "open", 443: "open", 8000: "filtered"}
    assert lab.outside.tcp("10.99.0.2", 7000, 0.7) == "filtered", "as was said"
    server.ssh(f"sudo {remedy(planned['preflight.forwarding'], 'ufw default allow routed', ' ')}")
    assert lab.outside.tcp("10.99.0.2", 7000) == "open", "and what was said against it helps"


@pytest.fixture(scope="module")
def docker(lab: Lab, program: Path) -> Iterator[Operator]:
    """The operator of a host on which Docker runs."""
    server = lab.boot(ServerSpec(packages=DOCKER, layers=(program,)))
    yield Operator(lab, server)
    server.discard()


# Caddy itself in a container, as many run it. The package is the one of its own repository.
REPOSITORY = "https://dl.cloudsmith.io/public/caddy/stable/deb/debian"
CONTAINED = f"""\
cd /root
file=$(curl -sS {REPOSITORY}/dists/any-version/main/binary-amd64/Packages | sed -n 's/^Filename: //p' | head -n 1)
curl -sS -o caddy.deb "{REPOSITORY}/$file"
dpkg-deb -x caddy.deb image
tar -c -C image usr/bin/caddy | docker import - caddy >/dev/null
docker run -d --name proxy -p 443:443 caddy /usr/bin/caddy respond --listen :443 hello
"""
WITHOUT_PROXY = """\
docker stop -t 0 proxy
echo '{"userland-proxy": false}' >/etc/docker/daemon.json
systemctl restart docker
docker start proxy
"""


def test_container_on_443_blocks_also_where_docker_itself_holds_the_port(docker: Operator) -> None:
    shell(docker, CONTAINED)
    docker.server.ssh("sudo true")
    for who in ("docker-proxy", "dockerd"):
        until = Deadline("the container's port", 20)
        while meets(docker, 443) != {443: "open"}:
            until.tick(0.2)
        before = docker.server.snapshot()
        document = docker.apply()
        assert (document["exit_code"], document["changed"], document["run"]) == (3, False, None)
        blocking = findings(document, "blocked")
        assert list(blocking) == ["preflight.web_ports"]
        told = blocking["preflight.web_ports"]
        assert f"{who} (docker.service) listens on port 443" in told
        assert "docker stop NAME" in told and "systemctl" not in told, "Docker itself is not to be stopped"
        own = ("/var/lib/docker", "/var/lib/containerd")
        assert [line for line in left(docker, before) if not line.startswith(own)] == []
        named = docker.server.ssh(f"sudo {remedy(told, 'docker ps --filter publish=443', ' (or')}").stdout
        assert "proxy" in named
        if who == "docker-proxy":
            shell(docker, WITHOUT_PROXY)
    shell(docker, "docker rm -f proxy; rm /etc/docker/daemon.json; systemctl restart docker")
    assert findings(docker.plan(), "blocked") == {}


def test_port_that_docker_publishes_is_open_past_ufw_as_is_said(docker: Operator) -> None:
    operator = docker
    shell(operator, "\n".join(PUBLISH))
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert set(rows(document).values()) == {True}
    warned = findings(document, "warn")
    assert list(warned) == ["preflight.published_ports"], "and nobody says that 3306 is closed"
    assert "port 3306 past ufw" in warned["preflight.published_ports"]
    assert meets(operator, 3306, 6379, 443, 8000) == {3306: "open", 6379: "filtered", 443: "open", 8000: "filtered"}
    ping = "docker exec web /bin/busybox ping -c 1 -W 2 10.91.0.1"
    assert "1 packets received" in shell(operator, ping), "containers reach others as before"
    close = remedy(warned["preflight.published_ports"], "iptables -I DOCKER-USER", " (again")
    operator.server.ssh(f"sudo {close}")
    assert meets(operator, 3306) == {3306: "filtered"}
    assert findings(operator.plan(), "warn") == {}


CUSTOM = """\
[Service]
Type=notify
ExecStart=/usr/local/bin/caddy run --config /etc/own.Caddyfile --adapter caddyfile
[Install]
WantedBy=multi-user.target
"""
# A build of years ago, in the place of one that somebody has made.
BUILD = """\
cd /root
old=$(apt-cache madison caddy | sed -n 's/^ *caddy | *\\([^ ]*\\) .*archive.lab.*/\\1/p')
apt-get download -q "caddy=$old" >/dev/null 2>&1
dpkg-deb -x caddy_"$old"_*.deb build
install build/usr/bin/caddy {}
"""


def test_old_caddy_of_the_distribution_is_upgraded_for_a_reason_and_works(attend: Attend) -> None:
    """Debian's own 2.6; before that, what must not begin; after it, a build in the package's place."""
    operator = attend(ServerSpec(packages=("caddy",)))
    server = operator.server
    assert server.run(["caddy", "version"]).stdout.strip() == "2.6.2"
    server.run(["apt-mark", "hold", "caddy"])
    assert_blocked(operator, "caddy.held", ("Caddy 2.6.2", "2.9.0 is needed", "sudo apt-mark unhold caddy"))
    server.run(["apt-mark", "unhold", "caddy"])
    operator.lab.gate.names.fail("dl.cloudsmith.io")
    try:
        assert_blocked(operator, "caddy.keyring", ("could not be fetched", "curl -v https://dl.cloudsmith.io"))
    finally:
        operator.lab.gate.names.fail("dl.cloudsmith.io", None)
    planned = operator.plan()
    assert "2.6.2-5 is too old, 2.9.0 is needed: it lacks keys taken out" in findings(planned, "drift")["caddy.package"]
    (upgrade,) = (
        change
        for step in planned["steps"]
        for change in step["changes"]
        if change.get("argv", [""])[-1] == "caddy" and "install" in change["argv"]
    )
    assert (upgrade["impact"], "2.9.0 is needed" in upgrade["why"]) == ("restart caddy", True)
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert set(rows(document).values()) == {True}
    assert server.run(["caddy", "version"]).stdout.startswith("v2.11.7 ")
    assert meets(operator, 80, 443) == {80: "filtered", 443: "open"}
    shell(operator, "dpkg-divert --quiet --local --divert /usr/bin/caddy.default --rename /usr/bin/caddy")
    shell(operator, "cp /usr/bin/caddy.default /usr/bin/caddy")
    told = findings(operator.plan(), "warn")["caddy.custom_build"]
    assert "runs /usr/bin/caddy 2.11.7, by dpkg-divert it is not the package's" in told
    shell(operator, BUILD.format("/usr/bin/caddy"))
    words = ("/usr/bin/caddy 2.6.2", "too old: 2.9.0 is needed", "dpkg-divert --rename --remove /usr/bin/caddy")
    assert_blocked(operator, "caddy.custom_build", words)
    server.ssh(remedy(findings(operator.plan(), "blocked")["caddy.custom_build"], "sudo mv", "; then run"))
    document = operator.apply()
    assert (document["exit_code"], troubles(document)) == (0, [])


def test_caddy_that_somebody_built_is_not_replaced_without_being_asked(attend: Attend) -> None:
    operator = attend(ServerSpec())
    server = operator.server
    shell(operator, BUILD.format("/usr/local/bin/caddy"))
    server.put("/etc/own.Caddyfile", b':80 {\n\trespond "own"\n}\n')
    server.put("/etc/systemd/system/caddy.service", CUSTOM.encode())
    shell(operator, "systemctl daemon-reload; systemctl enable -q --now caddy")
    words = ("a Caddy that no package brought: /usr/local/bin/caddy", "run by /etc/systemd/system/caddy.service")
    assert_blocked(operator, "caddy.custom_build", words)
    assert operator.lab.outside.run(["curl", "-s", f"http://{server.address}"]).stdout == "own"
    server.ssh(remedy(findings(operator.plan(), "blocked")["caddy.custom_build"], "sudo systemctl", "; then run"))
    document = operator.apply()
    assert document["exit_code"] == 0, troubles(document)
    assert set(rows(document).values()) == {True}
