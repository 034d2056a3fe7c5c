"""What preflight says of other things that rule this server's packets: firewalls, containers, forwarding, UDP.

ufw is one of several programs that speak to the kernel. Where another one's rules come first, or need what ufw's
defaults refuse, a person must know before anything is changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .engine import Look
from .model import Finding, Level
from .parse.host import parse_base_chains, parse_own_tables, parse_udp
from .parse.netfilter import Packet, Ruleset, evaluate, foreign_rules
from .parse.ufw import decide
from .paths import OWN_TABLE
from .published import ELSEWHERE, find_published, is_closed, loaded_rules, outer_interface
from .queries import FIREWALLD, K3S, PERSISTENT, SAVE, TABLES
from .web_ports import WEB_PORTS

PERSISTENT_PACKAGES = ("iptables-persistent", "netfilter-persistent")
# Chains of programs that keep their own rules in order, and come before ufw on purpose.
KNOWN_CHAINS = re.compile(
    r"^(?:f2b-|ts-|KUBE-|CNI-|cali-|cilium|LIBVIRT_|DOCKER|NETAVARK|FLANNEL|sshguard|CROWDSEC)", re.I
)
# Packets of this server to itself. ufw makes such a rule too, where it has no IPv6, and leaves it until a reboot.
LOOPBACK = re.compile(r" -i lo -j ACCEPT$")
# Interfaces by their names: who forwards packets through them.
FORWARDERS = (
    (re.compile(r"^(?:cni|flannel|cali|kube)"), "Kubernetes"),
    (re.compile(r"^wg"), "WireGuard"),
    (re.compile(r"^(?:tun|tap)"), "a VPN"),
    (re.compile(r"^virbr"), "libvirt"),
    (re.compile(r"^(?:lxdbr|incusbr|lxcbr)"), "LXD"),
)
FORWARDING = {4: "/proc/sys/net/ipv4/ip_forward", 6: "/proc/sys/net/ipv6/conf/all/forwarding"}
# Programs of the kernel or without a name of their own, by the ports that they wait on.
UDP_SERVICES = {
    53: "DNS",
    69: "TFTP",
    161: "SNMP",
    500: "IPsec",
    514: "syslog",
    1194: "OpenVPN",
    3478: "STUN",
    4500: "IPsec",
    8472: "VXLAN",
    41641: "Tailscale",
    51820: "WireGuard",
    51821: "WireGuard",
}
MOSH = range(60000, 61001)


def check_surroundings(look: Look) -> Iterator[Finding]:
    rules = {family: loaded_rules(look, family) for family in SAVE}
    if look.answers.firewall.manage:
        yield from check_firewalld(look)
        yield from check_persistent(look)
    yield from check_own_rules(look, rules)
    yield from check_own_tables(look)
    if look.answers.firewall.manage:
        yield from check_forwarding(look)
        yield from check_udp(look)
    yield from check_published(look)


def check_firewalld(look: Look) -> Iterator[Finding]:
    unit = look.server.units(FIREWALLD)[FIREWALLD]
    if unit.is_active:
        yield Finding(
            "preflight.firewalld",
            Level.BLOCKED,
            "firewalld runs here: it and ufw would each undo what the other has set",
            remedy="note its rules (sudo firewall-cmd --list-all-zones), then sudo systemctl disable --now firewalld; "
            "or keep it, open 443 in it, and answer firewall: {manage: false}",
        )
    elif unit.exists and unit.is_enabled:
        yield Finding(
            "preflight.firewalld",
            Level.WARN,
            "firewalld does not run, but would after a reboot, beside ufw",
            remedy="sudo systemctl disable firewalld",
        )


def check_persistent(look: Look) -> Iterator[Finding]:
    """The packages refuse to be installed beside each other, and apt takes that for leave to remove these."""
    found = look.server.packages("ufw", *PERSISTENT_PACKAGES)
    there = [name for name in PERSISTENT_PACKAGES if found[name].installed]
    if there and not found["ufw"].installed:
        yield Finding(
            "preflight.netfilter_persistent",
            Level.BLOCKED,
            f"{' and '.join(there)} load rules of yours at each boot, and installing ufw would remove them",
            remedy="see whether a rule is still needed (sudo cat /etc/iptables/rules.v4); if not: sudo apt-get remove "
            f"{' '.join(there)}; or keep them, open 443 there, and answer firewall: {{manage: false}}",
            evidence={"packages": there},
        )
    elif there and look.server.units(PERSISTENT)[PERSISTENT].is_enabled:
        yield Finding(
            "preflight.netfilter_persistent",
            Level.WARN,
            f"{PERSISTENT} loads rules of yours at each boot, beside ufw's: which come first is left to chance",
            remedy=f"sudo systemctl disable {PERSISTENT}, where nothing in /etc/iptables is needed any more",
        )


def check_own_rules(look: Look, rules: dict[int, Ruleset | None]) -> Iterator[Finding]:
    """Rules before ufw's decide first: what they refuse stays closed, what they accept stays open."""
    own = {
        family: [rule for rule in foreign_rules(loaded) if not (_is_of_a_program(rule) or LOOPBACK.search(rule))]
        for family, loaded in rules.items()
        if loaded is not None
    }
    for family, loaded in rules.items():
        if loaded is None or not own.get(family):
            continue
        packet = Packet("tcp", 443, ELSEWHERE[family], outer_interface(look), family=family)
        verdict = evaluate(loaded, packet)
        program = "iptables" if family == 4 else "ip6tables"
        if verdict.result in ("drop", "reject") and verdict.rule in own[family]:
            delete = f"sudo {program} {verdict.rule.replace('-A ', '-D ', 1)}"
            yield Finding(
                "preflight.own_rules",
                Level.BLOCKED,
                f"a rule of this server refuses 443/tcp before ufw is asked (IPv{family}): {verdict.rule}",
                remedy=f"if it may go: {delete}; and out of what loads it at boot, often /etc/iptables/rules.v{family}",
                evidence={"rules": own[family]},
            )
            return
    if any(own.values()):
        first = next(rule for found in own.values() for rule in found)
        count = len({rule for found in own.values() for rule in found})
        more = f", and {count - 1} more" if count > 1 else ""
        yield Finding(
            "preflight.own_rules",
            Level.WARN,
            f"rules of this server come before ufw's: what they accept or refuse, ufw has no say in: {first}{more}",
            remedy="see whether each is still needed: sudo iptables -S INPUT; sudo ip6tables -S INPUT",
            evidence={"rules": {str(family): found for family, found in own.items()}},
        )


def _is_of_a_program(rule: str) -> bool:
    target = re.search(r" -[jg] (\S+)", rule)
    return target is not None and KNOWN_CHAINS.match(target[1]) is not None


def check_own_tables(look: Look) -> Iterator[Finding]:
    """nftables' own tables act beside iptables': a packet must pass both."""
    for family, name in parse_own_tables(look.server.query(TABLES, timeout_s=10).out):
        if name in ("firewalld", OWN_TABLE) or KNOWN_CHAINS.match(name):
            continue
        output = look.server.query(("nft", "list", "table", family, name), timeout_s=10)
        show = f"sudo nft list table {family} {name}"
        inward = [chain for chain in parse_base_chains(output.out) if chain.hook in ("input", "ingress", "prerouting")]
        if not any(chain.rules or chain.policy == "drop" for chain in inward):
            continue
        refusing = next(((chain, by) for chain in inward if (by := chain.refuses(443)) is not None), None)
        evidence = {"table": f"{family} {name}", "rules": [rule for chain in inward for rule in chain.rules][:20]}
        if refusing is not None:
            chain, by = refusing
            yield Finding(
                "preflight.nftables",
                Level.BLOCKED,
                f"nftables' table {family} {name} refuses 443/tcp, whatever ufw says: {by}, in its chain {chain.name}",
                f"let it in there: sudo nft insert rule {family} {name} {chain.name} tcp dport 443 accept; and in what "
                f"loads the table at boot, often /etc/nftables.conf; to see it: {show}",
                evidence,
            )
            continue
        drops = any(chain.policy == "drop" for chain in inward)
        says = "drops what no rule of its own lets in" if drops else "has rules for incoming packets"
        yield Finding(
            "preflight.nftables",
            Level.WARN,
            f"nftables' table {family} {name} {says}; ufw knows nothing of it, and a packet must pass both",
            remedy=f"let 443 in there too, or take it away (often from /etc/nftables.conf); to see it: {show}",
            evidence=evidence,
        )


def check_forwarding(look: Look) -> Iterator[Finding]:
    """ufw's default refuses packets that only pass through; Docker's own rules come before that, others' do not."""
    firewall = look.server.firewall()
    if (firewall.enabled and firewall.loaded is not False) or firewall.defaults.forward == "allow":
        return
    switched_on = [state for path in FORWARDING.values() if (state := look.server.read(path)) is not None]
    if not any(state.text.strip() == "1" for state in switched_on):
        return
    interfaces = sorted({one.interface for one in look.server.addresses()})
    found = {who: name for pattern, who in FORWARDERS for name in interfaces if pattern.match(name)}
    if look.server.units(K3S)[K3S].is_active:
        found.setdefault("Kubernetes", "k3s")
    if not found:
        return
    named = ", ".join(f"{who} ({name})" for who, name in found.items())
    pods = (
        "; for k3s' pods also sudo ufw allow from 10.42.0.0/16 and from 10.43.0.0/16" if "Kubernetes" in found else ""
    )
    yield Finding(
        "preflight.forwarding",
        Level.WARN,
        f"this server passes packets on for {named}; ufw, once it is on, drops those by default",
        remedy=f"to keep them: sudo ufw default allow routed (DEFAULT_FORWARD_POLICY in /etc/default/ufw){pods}",
        evidence={"interfaces": sorted(found.values())},
    )


def check_udp(look: Look) -> Iterator[Finding]:
    firewall = look.server.firewall()
    if firewall.enabled and firewall.loaded is not False and firewall.defaults.input != "allow":
        return
    states = [look.server.read(path) for path in ("/proc/net/udp", "/proc/net/udp6")]
    ports = sorted({port for state in states if state is not None for port in parse_udp(state.text)})
    kept = {str(rule.port) for rule in look.answers.firewall.allow if rule.protocol in ("udp", "any")}
    for port in ports:
        name = UDP_SERVICES.get(port) or ("mosh" if port in MOSH else "")
        action, rule = decide(firewall.rules, firewall.defaults, port, "udp", None, None, 4)
        if not name or str(port) in kept or (action in ("allow", "limit") and rule is not None):
            continue
        yield Finding(
            "preflight.cuts_off_udp",
            Level.WARN,
            f"{port}/udp ({name}) will no longer be reachable from outside",
            remedy=f"to keep it: firewall: {{allow: [{{port: {port}, protocol: udp, comment: {name}}}]}}",
            evidence={"port": port, "program": name},
        )


def check_published(look: Look) -> Iterator[Finding]:
    """A container's published port is led past ufw before it is asked: neither ufw nor its default closes it."""
    published = [one for one in find_published(look) if one.port not in WEB_PORTS and not is_closed(look, one)]
    ports = sorted({one.port for one in published})
    if ports:
        listed = ", ".join(str(port) for port in ports)
        condition = f"-p {published[0].protocol} -m conntrack --ctorigdstport {ports[0]} --ctdir ORIGINAL"
        drop = f"sudo iptables -I DOCKER-USER -i {outer_interface(look)} {condition} -j DROP"
        by_docker = any(one.to and one.family == 4 for one in published)
        yield Finding(
            "preflight.published_ports",
            Level.WARN,
            f"containers publish port {listed} past ufw: open to everybody, whatever ufw says",
            remedy=f"publish on loopback alone (-p 127.0.0.1:{ports[0]}:…) what only this server needs"
            + (f"; or close it to all: {drop} (again after each boot)" if by_docker else ""),
            evidence={"ports": ports, "published": sorted({str(one) for one in published})},
        )
