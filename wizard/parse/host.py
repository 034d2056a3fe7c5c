"""What small programs and the kernel's own files say about a host: free space, locks, UDP sockets, nftables, clock."""

import ipaddress
import re
from dataclasses import dataclass

_CLOCK = re.compile(r"^NTPSynchronized=(yes|no)$", re.MULTILINE)
_ASSIGNMENT = re.compile(r"^([A-Z]+)='(.*)'$", re.MULTILINE)
_TABLE = re.compile(r"^table (\S+) (\S+)", re.MULTILINE)
_BASE_CHAIN = re.compile(r"type filter hook (?P<hook>\w+) priority [^;]*;(?: policy (?P<policy>\w+);)?")
_PORTS = r"(?P<ports>\{[^}]*\}|\S+)"
_TCP_PORTS = re.compile(rf"\b(?:tcp|th) dport (?P<not>!= )?{_PORTS}")
_REFUSING = re.compile(
    rf"(?:tcp dport {_PORTS} )?(?:ct state new )?(?:counter(?: packets \d+ bytes \d+)? )?(?:drop|reject\b.*)"
)
_ACCEPTING = re.compile(r"\b(?:accept|queue|jump|goto|vmap|map|dup|fwd)\b")
# What only answers, what comes from the server itself, and what is no TCP.
_ANSWERS, _OTHERS = r"(?:established|related)", r"(?:udp|icmp|icmpv6|ipv6-icmp|igmp)"
_NOT_NEW_TCP = re.compile(
    r'\biif(?:name)? "?lo"?(?: |$)'
    rf"|\bct state (?:\{{ {_ANSWERS}(?:, {_ANSWERS})* \}}|{_ANSWERS}(?:,{_ANSWERS})*(?: |$))"
    r"|\b(?:udp|icmp|icmpv6) (?:dport|sport|type)\b"
    rf"|\b(?:l4proto|protocol|nexthdr) (?:{_OTHERS}\b|\{{ {_OTHERS}(?:, {_OTHERS})* \}})"
)
# Tables that iptables-nft keeps its own rules in: those are read by iptables-save.
_OF_IPTABLES = frozenset(
    (family, name) for family in ("ip", "ip6") for name in ("filter", "nat", "mangle", "raw", "security")
)


@dataclass(frozen=True)
class Space:
    """A row of `df`: what is left below `target`. `inodes` is None where the file system has no such limit."""

    target: str
    free_bytes: int
    inodes: int | None


@dataclass(frozen=True)
class Lock:
    """A row of `lslocks`."""

    pid: int
    program: str
    path: str


@dataclass(frozen=True)
class BaseChain:
    """A chain of nftables that packets meet: where, what becomes of those that no rule decides, and its rules."""

    hook: str
    policy: str
    rules: tuple[str, ...]
    name: str = ""

    def refuses(self, port: int) -> str | None:
        """The rule that keeps new TCP connections of everybody from this port, or the policy; None where some may
        get in."""
        for rule in self.rules:
            if _decides_on(rule, port):
                return rule
            if _may_let_in(rule, port):
                return None
        return "policy drop" if self.policy == "drop" else None


def parse_space(text: str) -> tuple[Space, ...]:
    """Rows of `df -B1 --output=target,avail,iavail`, each mount point once."""
    found: dict[str, Space] = {}
    for line in text.splitlines()[1:]:
        fields = line.rsplit(maxsplit=2)
        if len(fields) == 3 and fields[1].isdigit():
            inodes = int(fields[2]) if fields[2].isdigit() and fields[2] != "0" else None
            found.setdefault(fields[0], Space(fields[0], int(fields[1]), inodes))
    return tuple(found.values())


def parse_locks(text: str) -> tuple[Lock, ...]:
    """Rows of `lslocks --noheadings --raw -o PID,COMMAND,PATH` whose process and file are known."""
    locks = []
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) == 3 and fields[0].isdigit() and fields[2].startswith("/"):
            locks.append(Lock(int(fields[0]), fields[1].replace(r"\x20", " "), fields[2]))
    return tuple(locks)


def parse_synchronized(text: str) -> bool | None:
    """`timedatectl show -p NTPSynchronized`; None where it does not say."""
    found = _CLOCK.search(text)
    return found[1] == "yes" if found else None


def parse_assignments(text: str) -> dict[str, str]:
    """`apt-config shell NAME Key …`: the keys that are set, by the names that were given."""
    return dict(_ASSIGNMENT.findall(text))


def parse_udp(text: str) -> tuple[int, ...]:
    """Ports of /proc/net/udp or udp6 that wait for packets of anybody, sorted; loopback left out."""
    ports = set()
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 4 or fields[3] != "07" or not fields[2].endswith(":0000"):
            continue
        address, _, port = fields[1].partition(":")
        try:
            # Groups of four bytes, each in the machine's own order, which on servers is the little end first.
            groups = [bytes.fromhex(address[start : start + 8])[::-1] for start in range(0, len(address), 8)]
            if not ipaddress.ip_address(b"".join(groups)).is_loopback:
                ports.add(int(port, 16))
        except ValueError:
            continue
    return tuple(sorted(ports))


def parse_own_tables(text: str) -> tuple[tuple[str, str], ...]:
    """(family, name) of the tables in `nft list tables` that iptables did not make."""
    return tuple(one for one in _TABLE.findall(text) if one not in _OF_IPTABLES)


def parse_base_chains(text: str) -> tuple[BaseChain, ...]:
    """The filtering chains of `nft list table FAMILY NAME` that packets meet by themselves."""
    chains = []
    for name, body in re.findall(r"^\tchain (\S+) \{\n(.*?)^\t\}", text, re.MULTILINE | re.DOTALL):
        if head := _BASE_CHAIN.search(body):
            lines = [line.strip() for line in body.splitlines()]
            rules = tuple(line for line in lines if line and not line.startswith(("type ", "comment ")))
            chains.append(BaseChain(head["hook"], head["policy"] or "accept", rules, name))
    return tuple(chains)


def _decides_on(rule: str, port: int) -> bool:
    """True for a rule that refuses every new TCP connection to the port, and has no other condition."""
    found = _REFUSING.fullmatch(rule)
    return found is not None and (found["ports"] is None or _has_port(found["ports"], port) is True)


def _may_let_in(rule: str, port: int) -> bool:
    """False only where it is certain that the rule has no new TCP connection of other machines accepted."""
    if _ACCEPTING.search(rule) is None or _NOT_NEW_TCP.search(rule):
        return False
    ports = _TCP_PORTS.search(rule)
    return ports is None or ports["not"] is not None or _has_port(ports["ports"], port) is not False


def _has_port(ports: str, port: int) -> bool | None:
    """Whether nftables' `22`, `1000-2000` or `{ 22, 443 }` has the port; None where it can't be told."""
    for one in ports.strip("{} ").split(","):
        first, _, last = one.strip().partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            return None
        if int(first) <= port <= int(last or first):
            return True
    return False
