"""Preflight looks at all that is around vLLM: SSH, ports, apt, other firewalls, forwarding, containers, the cloud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.altered import (
    edited_command,
    exposed,
    findings,
    with_answers,
    with_command,
    with_files,
    with_listeners,
    with_unit,
)
from wizard.described import DescribedMachine
from wizard.facts import Facts
from wizard.model import Level, Output
from wizard.server import Address, FileState, Listener

UFW_OFF = "firewall: {manage: false}"


def installed(*names: str) -> str:
    return "".join(f"{name}\tii \t1.0\n" for name in names)


# ── SSH ──


def test_both_ports_of_ssh_are_recorded() -> None:
    assert set(findings(exposed("ssh-on-two-ports"))["ssh"].evidence["ports"]) == {"22", "2222"}


def test_configured_port_that_nobody_listens_on_is_warned_of() -> None:
    server = edited_command(exposed(), "sshd", lambda said: said + "listenaddress 0.0.0.0:2222\n")
    found = findings(server)
    assert "2222" in found["ssh_not_listening"].summary and "ssh.socket" in str(found["ssh_not_listening"].remedy)


def test_other_server_of_ssh_is_one() -> None:
    server = with_listeners(exposed(), Listener("0.0.0.0", 2022, "dropbear", 9, "dropbear.service"))
    assert "2022, because dropbear" in findings(server)["ssh"].summary


@pytest.mark.parametrize(("exists", "words"), [(True, "does not run"), (False, "no sshd")])
def test_server_without_ssh_blocks_and_says_which_of_both(exists: bool, words: str) -> None:
    server = with_listeners(exposed(), without=[22])
    server = replace(server, description=replace(server.description, operator=None))
    for unit in ("ssh.service", "sshd.service", "ssh.socket"):
        gone = {} if exists else {"LoadState": "not-found"}
        server = with_unit(server, unit, ActiveState="inactive", **gone) if unit != "sshd.service" else server
    server = with_command(server, "sshd", Output(255, "", "Missing privilege separation directory: /run/sshd"))
    found = findings(server)["ssh"]
    assert found.level is Level.BLOCKED
    assert words in found.summary and "ssh_ports" in str(found.remedy)


@pytest.mark.parametrize(
    ("addresses", "blocked"),
    [(("2001:db8::1", "2001:db8::2"), True), (("0.0.0.0", "2001:db8::1"), False), (("::",), False)],
)
def test_ipv6_that_ufw_would_drop_is_not_the_only_way_in(addresses: tuple[str, ...], blocked: bool) -> None:
    there = [Listener(address, 22, "sshd", 41, "ssh.service") for address in addresses]
    server = with_files(with_listeners(exposed(), *there, without=[22]), {"/etc/default/ufw": "IPV6=no\n"})
    assert ("ssh_ipv6" in findings(server)) is blocked
    assert "ssh_ipv6" not in findings(with_files(server, {"/etc/default/ufw": "IPV6=yes\n"}))


def test_all_of_preflight_asks_few_commands() -> None:
    """Each costs its time on every look: they are counted, and a new one has to be worth it."""
    asked: list[str] = []

    class Counting(DescribedMachine):
        def command(self, argv: Sequence[str], **rest: Any) -> Output:
            asked.append(" ".join(argv[:2]))
            return super().command(argv, **rest)

    server = exposed()
    findings(server, replace(server.look(), server=Facts(Counting(server.description))))
    assert len(asked) <= 12, asked


# ── ports 80 and 443 ──


@pytest.mark.parametrize(
    ("listener", "words"),
    [
        (Listener("0.0.0.0", 80, "nginx", 9, "nginx.service"), ("disable --now nginx.service", "sites-enabled")),
        (Listener("::", 443, "apache2", 9, "apache2.service"), ("disable --now apache2.service", "ports.conf")),
        (Listener("0.0.0.0", 443, "haproxy", 9, "haproxy.service"), ("haproxy.cfg",)),
        (Listener("0.0.0.0", 80, "docker-proxy", 9, "docker.service"), ("docker ps --filter publish=80",)),
        (Listener("0.0.0.0", 443, "vllm", 9, "vllm.service"), ("--port 8000", "restart vllm.service")),
        (Listener("0.0.0.0", 443, "caddy", 9, "caddy-api.service"), ("not the one of caddy.service",)),
        (Listener("0.0.0.0", 80, "python3", 4711, "session-2.scope"), ("kill 4711",)),
        (Listener("0.0.0.0", 80, "python3", 4711, ""), ("kill 4711",)),
        (Listener("127.0.0.1", 443, "stunnel4", 9, "stunnel4.service"), ("disable --now stunnel4.service",)),
    ],
)
def test_program_on_a_web_port_is_named_with_how_it_goes(listener: Listener, words: tuple[str, ...]) -> None:
    found = findings(with_listeners(exposed(), listener))["web_ports"]
    assert found.level is Level.BLOCKED
    assert f"{listener.program} (" in found.summary and str(listener.port) in found.summary
    assert all(word in str(found.remedy) for word in words), found.remedy


def test_both_ports_of_one_program_are_named_at_once() -> None:
    nginx = [Listener("0.0.0.0", port, "nginx", 9, "nginx.service") for port in (80, 443)]
    assert "port 80 and 443" in findings(with_listeners(exposed(), *nginx))["web_ports"].summary


# ── apt ──


def test_half_installed_packages_of_others_block_and_ours_do_not() -> None:
    server = edited_command(exposed(), "dpkg-query", lambda said: said + "netbase\tiF \t6\n")
    assert findings(server)["packages"].evidence == {"packages": ["netbase"]}
    ours = edited_command(exposed(), "dpkg-query", lambda said: said + "debian-keyring\tiU \t6\ncaddy\tiF \t2.11\n")
    assert findings(ours)["packages"].level is Level.OK


def test_held_package_blocks_where_it_is_to_be_installed() -> None:
    found = findings(exposed("ufw-held"))["held"]
    assert (found.level, found.remedy) == (Level.BLOCKED, "sudo apt-mark unhold ufw; then check again")
    assert "held" not in findings(exposed())
    kept = edited_command(exposed(), "dpkg-query", lambda said: said.replace("ufw\tii", "ufw\thi"))
    assert findings(kept)["held"].level is Level.INFO


def test_holder_of_apts_lock_is_recorded_and_named() -> None:
    found = findings(exposed("apt-locked"))["apt_lock"]
    assert found.level is Level.INFO
    (holder,) = found.evidence["holders"]
    assert holder["program"] == "python3" and f"process {holder['pid']}" in found.summary
    assert "apt_lock" not in findings(exposed())


def test_file_of_sources_that_stops_apt_is_named() -> None:
    found = findings(exposed("apt-source-broken"))["apt_sources"]
    assert found.evidence["path"] == "/etc/apt/sources.list.d/old.list"
    assert "line 1" in found.summary and "sudo mv" in str(found.remedy)


@pytest.mark.parametrize(
    ("path", "at_work"), [("/var/lib/dpkg/lock-frontend", True), ("/var/lib/apt/lists/lock", False)]
)
def test_package_that_dpkg_is_at_work_on_is_no_fault(path: str, at_work: bool) -> None:
    """Unattended-upgrades soon after a boot: who finished its work by hand would be told of a lock."""
    server = edited_command(exposed(), "dpkg-query", lambda said: f"{said}netbase\tiF \t6.4\n", has="db:Status-Abbrev")
    assert findings(server)["packages"].level is Level.BLOCKED
    locked = edited_command(server, "lslocks", lambda said: f"{said}135 unattended-upgr {path}\n")
    found = findings(locked)["packages"]
    assert found.level is (Level.INFO if at_work else Level.BLOCKED)
    assert ("netbase: being installed right now, by unattended-upgr (process 135)" in found.summary) is at_work


def test_configuration_that_stops_apt_blocks_in_its_own_words() -> None:
    said = Output(100, "", "E: Syntax error /etc/apt/apt.conf.d/99x:1: Extra junk at end of file")
    found = findings(with_command(exposed(), "apt-config", said))["apt_configuration"]
    assert found.level is Level.BLOCKED and "99x:1" in found.summary


def test_proxy_of_apts_own_is_told_without_its_password() -> None:
    server = with_command(exposed(), "apt-config", "HTTP='http://me:word@proxy:3128'\nHTTPS='DIRECT'\n")
    look = server.look()
    found = findings(server, look)["apt_proxy"]
    assert found.level is Level.INFO and found.evidence["proxies"] == ["http://me:word@proxy:3128"]
    assert "word" not in look.mask.text(found.summary)


@pytest.mark.parametrize(
    ("rows", "level", "words"),
    [
        ("/ 90000000000 100\n", Level.BLOCKED, ("100 more files", "--inodes")),
        ("/ 90000000000 -\n/var 104857600 9999999\n", Level.BLOCKED, ("/var has 100 MiB", "apt-get clean")),
        ("/ 900000000 9999999\n", Level.WARN, ("858 MiB",)),
        ("/ 90000000000 0\n", None, ()),
        ("/mnt/with a space 90000000000 999999\n", None, ()),
    ],
)
def test_room_for_an_installation_is_looked_at(rows: str, level: Level | None, words: tuple[str, ...]) -> None:
    found = findings(with_command(exposed(), "df", f"Mounted on Avail IFree\n{rows}")).get("space")
    assert (found.level if found else None) is level
    assert all(word in f"{found.summary} {found.remedy}" for word in words if found)


# ── clock, cloud ──


def test_clock_is_warned_of_only_where_it_is_known_to_drift() -> None:
    assert findings(exposed("many-warnings"))["clock"].level is Level.WARN
    assert "clock" not in findings(with_command(exposed(), "timedatectl", Output(1, "", "Failed to connect to bus")))


@pytest.mark.parametrize(
    ("name", "said", "provider", "firewall"),
    [
        ("sys_vendor", "Amazon EC2", "Amazon EC2", "security group"),
        ("product_name", "Google Compute Engine", "Google Cloud", "VPC firewall rule"),
        ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77", "Microsoft Azure", "network security group"),
        ("chassis_asset_tag", "OracleCloud.com", "Oracle Cloud", "security list"),
        ("sys_vendor", "Hetzner", "Hetzner", "cloud firewall"),
    ],
)
def test_firewall_of_a_cloud_is_told(name: str, said: str, provider: str, firewall: str) -> None:
    server = with_files(exposed(), {f"/sys/class/dmi/id/{name}": FileState("file", f"{said}\n".encode())})
    found = findings(server)["cloud"]
    assert found.evidence["provider"] == provider and firewall in found.summary


def test_machine_of_no_cloud_is_told_nothing() -> None:
    dmi = {"/sys/class/dmi/id/sys_vendor": FileState("file", b"Dell Inc.\n")}
    assert "cloud" not in findings(with_files(exposed(), dmi))


# ── other firewalls ──


def test_recorded_firewalld_and_persistent_rules_block() -> None:
    assert findings(exposed("firewalld-runs"))["firewalld"].level is Level.BLOCKED
    found = findings(exposed("iptables-persistent"))["netfilter_persistent"]
    assert "iptables-persistent and netfilter-persistent load rules" in found.summary


def test_recorded_nginx_is_named_with_both_its_ports() -> None:
    found = findings(exposed("nginx-on-both-ports"))["web_ports"]
    assert "nginx (nginx.service) listens on port 80 and 443" in found.summary


def test_firewalld_blocks_unless_the_firewall_is_the_operators() -> None:
    server = with_unit(
        exposed(), "firewalld.service", LoadState="loaded", ActiveState="active", UnitFileState="enabled"
    )
    found = findings(server)["firewalld"]
    assert found.level is Level.BLOCKED and "manage: false" in str(found.remedy)
    assert "firewalld" not in findings(with_answers(server, UFW_OFF))
    asleep = with_unit(exposed(), "firewalld.service", LoadState="loaded", UnitFileState="enabled")
    assert findings(asleep)["firewalld"].level is Level.WARN


def test_rules_that_installing_ufw_would_remove_block() -> None:
    more = installed("iptables-persistent", "netfilter-persistent")
    server = edited_command(exposed("no-ufw"), "dpkg-query", lambda said: said + more if "\tii" in said else said)
    found = findings(server)["netfilter_persistent"]
    assert found.level is Level.BLOCKED and "/etc/iptables/rules.v4" in str(found.remedy)
    both = edited_command(exposed(), "dpkg-query", lambda said: said + more if "\tii" in said else said)
    both = with_unit(both, "netfilter-persistent.service", LoadState="loaded", UnitFileState="enabled")
    assert findings(both)["netfilter_persistent"].level is Level.WARN


def test_recorded_rules_that_refuse_443_block_with_the_command_that_takes_them_away() -> None:
    found = findings(exposed("own-rules-refuse"))["own_rules"]
    assert found.level is Level.BLOCKED
    assert "sudo iptables -D INPUT -j REJECT --reject-with icmp-host-prohibited" in str(found.remedy)


@pytest.mark.parametrize(
    ("rule", "level"),
    [
        ("-A INPUT -p tcp -m tcp --dport 8000 -j ACCEPT", Level.WARN),
        ("-A INPUT -p tcp -m tcp --dport 443 -j DROP", Level.BLOCKED),
        ("-A INPUT -s 198.51.100.0/24 -j DROP", Level.WARN),
        ("-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd", None),
        ("-A INPUT -j ts-input", None),
        ("-A INPUT -i lo -j ACCEPT", None),
        ("-A INPUT -m conntrack --ctstate NEW -j KUBE-NODEPORTS", None),
    ],
)
def test_rules_before_ufws_are_judged(rule: str, level: Level | None) -> None:
    chain = rule.split()[-1]
    own = f":{chain} - [0:0]\n" if chain not in ("ACCEPT", "DROP") else ""
    rules = f"*filter\n:INPUT ACCEPT [0:0]\n{own}{rule}\nCOMMIT\n"
    found = findings(with_command(exposed(), "iptables-save", rules)).get("own_rules")
    assert (found.level if found else None) is level
    assert found is None or rule in found.summary


# ── forwarding, UDP ──


def test_recorded_bridge_of_virtual_machines_is_warned_of() -> None:
    server = exposed("forwards-for-virtual-machines")
    found = findings(server)["forwarding"]
    assert "libvirt (virbr0)" in found.summary and "ufw default allow routed" in str(found.remedy)
    assert "forwarding" not in findings(with_answers(server, UFW_OFF))
    allowed = with_files(server, {"/etc/default/ufw": 'DEFAULT_FORWARD_POLICY="ACCEPT"\n'})
    assert "forwarding" not in findings(allowed)


@pytest.mark.parametrize(
    ("interface", "who"),
    [("wg0", "WireGuard"), ("cni0", "Kubernetes"), ("tun0", "a VPN"), ("lxdbr0", "LXD"), ("docker0", None)],
)
def test_who_needs_forwarding_is_known_by_interface(interface: str, who: str | None) -> None:
    server = exposed()
    addresses = (*server.description.addresses, Address(interface, "10.42.0.1"))
    server = replace(server, description=replace(server.description, addresses=addresses))
    on = with_files(server, {"/proc/sys/net/ipv4/ip_forward": FileState("file", b"1\n")})
    off = {
        f"/proc/sys/net/{name}": FileState("file", b"0\n") for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
    }
    found = findings(on).get("forwarding")
    assert (found is None) == (who is None)
    assert found is None or f"{who} ({interface})" in found.summary
    assert found is None or ("10.42.0.0/16" in str(found.remedy)) == (who == "Kubernetes")
    assert "forwarding" not in findings(with_files(server, off))


HEAD = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
REST = "07 00000000:00000000 00:00000000 00000000     0        0 20 2 0 0\n"


@pytest.mark.parametrize(
    ("row", "port"),
    [
        ("  1: 00000000:CA6C 00000000:0000", 51820),
        ("  1: 0700000A:EA61 00000000:0000", 60001),
        ("  1: 0100007F:CA6C 00000000:0000", None),
        ("  1: 00000000:CA6C 0700000A:01BB", None),
        ("  1: 00000000:9999 00000000:0000", None),
    ],
)
def test_udp_service_that_would_be_cut_off_is_named(row: str, port: int | None) -> None:
    server = with_files(exposed(), {"/proc/net/udp": f"{HEAD}{row} {REST}", "/proc/net/udp6": HEAD})
    found = findings(server).get("cuts_off_udp")
    assert (found.evidence["port"] if found else None) == port
    if port:
        kept = with_answers(server, f"firewall: {{allow: [{{port: {port}, protocol: udp}}]}}")
        assert f"port: {port}, protocol: udp" in str(found.remedy if found else "")
        assert "cuts_off_udp" not in findings(kept)
