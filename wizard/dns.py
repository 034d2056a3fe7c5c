"""What DNS says of the domain, judged as a public CA will see it: before the CA is asked, and with nothing changed."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .authority import Authority, Chain, ask_authority, follow
from .caa import check_caa, known_identities
from .cdn import find_cdn, is_cloudflare
from .engine import Look
from .model import Finding, Level
from .public_addresses import PublicAddresses, canonical, find_public_addresses, interface_addresses, is_private
from .server import DnsAnswer

FAMILY = {"A": 4, "AAAA": 6}


@dataclass(frozen=True)
class Judge:
    """What is known of this server's addresses, and how a wrong record counts."""

    domain: str
    chain: Chain
    public: PublicAddresses
    interfaces: tuple[str, ...]
    private_ca: bool
    level: Level

    def verdict(self, address: str) -> str:
        """own, private, other (known to be another's), or unknown.

        An address of an interface is this server's own, whatever the answers list; but a private one is of use to a
        private CA alone, unless the answers list it. IPv6 is not translated: what no interface has is another's.
        """
        private, given = is_private(address), self.public.source == "the answers"
        if private and not self.private_ca and not (given and address in self.public.addresses):
            return "private"
        if address in self.public.addresses or address in self.interfaces:
            return "own"
        if ":" in address or given or is_cloudflare(address) or find_cdn(self.chain.names):
            return "other"
        known = (*self.public.addresses, *self.interfaces)
        comparable = any(":" not in one and is_private(one) == private for one in known)
        return "other" if comparable else "unknown"

    def by_verdict(self, addresses: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        verdicts = {one: self.verdict(one) for one in addresses}
        return {name: tuple(one for one in addresses if verdicts[one] == name) for name in set(verdicts.values())}

    def wanted(self, kind: str) -> tuple[str, ...]:
        """What the record should say, as far as that is known."""
        found = self.public.of_family(FAMILY[kind])
        if not found and self.private_ca:
            found = tuple(one for one in self.interfaces if ipaddress.ip_address(one).version == FAMILY[kind])
        return found

    def record(self, kind: str = "A") -> str:
        """The right record as a zone file has it."""
        wanted = self.wanted(kind)
        return f"{self.chain.last}. {kind} {wanted[0] if wanted else '<the public address of this server>'}"

    def evidence(self, kind: str, found: tuple[str, ...]) -> dict[str, Any]:
        return {
            "name": self.chain.last,
            "type": kind,
            "found": list(found),
            "wanted": list(self.wanted(kind)),
            "wanted_from": self.source,
        }

    @property
    def source(self) -> str:
        """Who says what the record should be."""
        return "the interfaces" if self.private_ca and self.public.source == "unknown" else self.public.source

    @property
    def through(self) -> str:
        """How the domain comes to its last name, where that is another."""
        return f" (by CNAME to {self.chain.last})" if len(self.chain.names) > 1 else ""


def check_dns(
    look: Look, domain: str, identities: tuple[str, ...] = (), *, level: Level = Level.BLOCKED
) -> Iterator[Finding]:
    """All that is right and wrong with the domain's records; what is wrong has `level`.

    `identities` are the CA's names in CAA records, from its directory's meta.caaIdentities (RFC 8555 9.7.6); () where
    they are unknown. The domain is punycode.
    """
    domain = domain.lower().rstrip(".")
    server = look.server
    first = server.resolve(domain, "A")
    # A loop of CNAMEs is SERVFAIL, too. After silence nothing more is asked: each question would wait as long.
    if not first.is_answer and first.status != "servfail":
        yield _unreachable(first, level)
        return
    chain = follow(server, domain)
    if chain.is_loop or not first.is_answer:
        yield _loop(chain, level) if chain.is_loop else _unreachable(first, level)
        return
    inside = {"A": first, "AAAA": server.resolve(domain, "AAAA")}
    authority = ask_authority(server, domain)
    if authority is not None and authority.chain.is_loop:
        yield _loop(authority.chain, level)
        return
    chain = authority.chain if authority is not None else chain
    if len(chain.names) > 1:
        yield Finding("tls.dns_cname", Level.INFO, f"{domain} is an alias: {chain}", evidence={"chain": [*chain.names]})
    found = {kind: _values(authority.values(kind) if authority else inside[kind].values) for kind in FAMILY}
    private_ca = look.answers.tls.acme_ca_file is not None
    judge = Judge(domain, chain, find_public_addresses(look), interface_addresses(look), private_ca, level)
    yield from _check_private(judge, found)
    yield from _check_addresses(judge, found, inside["A"] if authority is None else authority.a[0])
    yield from _check_ipv6(judge, found["AAAA"], inside["AAAA"], authority)
    yield _check_authority(domain, inside, authority, level)
    yield check_caa(server, domain, known_identities(look.answers.tls.acme_directory, identities), level)


def _values(addresses: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(canonical(one) for one in addresses)


def _loop(chain: Chain, level: Level) -> Finding:
    last, back = chain.names[-2], chain.last
    in_circle = back in chain.names[:-1]
    said = "lead in a circle" if in_circle else "lead on and on"
    return Finding(
        "tls.dns_cname",
        level,
        f"the CNAME records of {chain.names[0]} {said}: {chain}",
        f"at the DNS of {last} replace its CNAME record (to {back}) by an A record with this server's address",
        {"found": list(chain.names), "wanted": "a chain that ends in an A record"},
    )


def _unreachable(answer: DnsAnswer, level: Level) -> Finding:
    evidence = {"name": answer.name, "status": answer.status, "detail": answer.detail}
    if answer.status == "servfail":
        said = f"the resolver cannot find {answer.name}: its name servers, or its DNSSEC, fail (SERVFAIL)"
        remedy = f"look at the domain's name servers and DNSSEC: dig +trace {answer.name}; dig +cd {answer.name}"
    elif answer.status == "invalid":
        said = f"{answer.name} is no name that DNS can be asked for: {answer.detail}"
        remedy = "correct tls.domain in the answers"
    else:
        said = f"no resolver of this server answers the question for {answer.name} ({answer.status})"
        remedy = f"look at /etc/resolv.conf, and whether port 53 is open outwards; try: dig {answer.name}"
    return Finding("tls.dns_unreachable", level, said, remedy, evidence)


def _check_private(judge: Judge, found: dict[str, tuple[str, ...]]) -> Iterator[Finding]:
    """Addresses that a public CA cannot connect to, of both families."""
    private = {kind: judge.by_verdict(values).get("private", ()) for kind, values in found.items()}
    kinds = [kind for kind in FAMILY if private[kind]]
    if not kinds:
        return
    listed = " and ".join(f"{kind} {', '.join(private[kind])}" for kind in kinds)
    should = " and ".join(
        f"let it say {judge.record(kind)}" if kind == "A" or judge.wanted(kind) else f"remove the {kind} record"
        for kind in kinds
    )
    yield Finding(
        "tls.dns_private",
        judge.level,
        f"{judge.chain.last} leads to a private address, which a public CA cannot reach: {listed}",
        f"{should}; or answer tls: {{mode: internal}}, which needs no public name",
        judge.evidence(kinds[0], tuple(one for kind in kinds for one in private[kind])),
    )


def _check_addresses(judge: Judge, found: dict[str, tuple[str, ...]], asked: DnsAnswer) -> Iterator[Finding]:
    """The A records; without any, an AAAA record of this server's own will do where it has no other address."""
    if not found["A"]:
        own = judge.by_verdict(found["AAAA"]).get("own", ())
        yield _missing(judge, own, asked)
        return
    verdicts = judge.by_verdict(found["A"])
    if other := verdicts.get("other", ()):
        yield _other(judge, other, verdicts.get("own", ()))
    elif unknown := verdicts.get("unknown", ()):
        said = (
            f"{judge.domain} leads to {', '.join(unknown)}{judge.through}, and whether that is this server is unknown"
        )
        remedy = f"if it is, answer tls: {{public_addresses: [{', '.join(found['A'])}]}}"
        yield Finding("tls.dns_address", Level.WARN, said, remedy, judge.evidence("A", unknown))
    elif own := verdicts.get("own", ()):
        said = f"{judge.domain} leads to this server: {', '.join(own)}{judge.through}"
        yield Finding("tls.dns_address", Level.OK, said, evidence=judge.evidence("A", found["A"]))


def _missing(judge: Judge, own6: tuple[str, ...], asked: DnsAnswer) -> Finding:
    last, evidence = judge.chain.last, judge.evidence("A", ())
    remedy = f"add this record at your DNS provider: {judge.record()}"
    if own6 and not judge.wanted("A"):
        said = f"{judge.domain} leads to this server, by IPv6 alone: {', '.join(own6)}{judge.through}"
        return Finding("tls.dns_address", Level.OK, said, evidence=judge.evidence("AAAA", own6))
    if own6:
        said = f"{last} has no A record: clients without IPv6 cannot find this server"
        return Finding("tls.dns_address", Level.WARN, said, remedy, evidence)
    if judge.through:
        why = "does not exist" if asked.status == "nxdomain" else "has no address"
        said = f"the CNAME record of {judge.chain.names[-2]} points to {last}, which {why}"
        remedy += f"; or let {judge.chain.names[-2]} point elsewhere"
    elif asked.status == "nxdomain":
        said = f"DNS does not know {last}"
    else:
        said = f"{last} has no A record"
    return Finding("tls.dns_address", judge.level, said, remedy, {**evidence, "status": asked.status})


def _other(judge: Judge, other: tuple[str, ...], own: tuple[str, ...]) -> Finding:
    last, listed = judge.chain.last, ", ".join(other)
    if own:
        said = f"{last} has A records beyond this server's own ({', '.join(own)}): {listed}"
        remedy = f"remove the others at your DNS provider, so that this one is left: {judge.record()}"
    else:
        wanted = ", ".join(judge.wanted("A"))
        should = f"; this server is {wanted}, say {judge.source}" if wanted else ""
        said = f"{judge.domain} leads to {listed}{judge.through}, which is not this server{should}"
        remedy = f"let the record say {judge.record()}; if {listed} leads here, answer it as tls.public_addresses"
    if any(is_cloudflare(one) for one in other):
        remedy = f"at Cloudflare switch the record from “Proxied” to “DNS only”; {remedy}"
    elif cdn := find_cdn(judge.chain.names):
        said += f", but {cdn}: that would read each key and answer, and end long ones"
    return Finding("tls.dns_address", judge.level, said, remedy, judge.evidence("A", (*other, *own)))


def _check_ipv6(
    judge: Judge, found: tuple[str, ...], inside: DnsAnswer, authority: Authority | None
) -> Iterator[Finding]:
    """A CA tries IPv6 first: an AAAA record that leads elsewhere fails, however right the A record is."""
    key, last = "tls.dns_ipv6", judge.chain.last
    if authority is None and not inside.is_answer:
        said = f"the resolver does not say whether {last} has an AAAA record ({inside.status})"
        yield Finding(key, Level.WARN, said, f"look yourself: dig AAAA {last}", {"status": inside.status})
        return
    verdicts = judge.by_verdict(found)
    if other := verdicts.get("other", ()):
        said = f"the AAAA record of {last} leads elsewhere ({', '.join(other)}), and the CA tries IPv6 first"
        should = f"let it say {judge.record('AAAA')}" if judge.wanted("AAAA") else "remove that AAAA record"
        remedy = f"{should}; if it leads here, answer it as one of tls.public_addresses"
        if any(is_cloudflare(one) for one in other):
            remedy = f"at Cloudflare switch the record from “Proxied” to “DNS only”; {remedy}"
        yield Finding(key, judge.level, said, remedy, judge.evidence("AAAA", found))
    elif own := verdicts.get("own", ()):
        said = f"{judge.domain} leads to this server by IPv6, too: {', '.join(own)}{judge.through}"
        yield Finding(key, Level.OK, said, evidence=judge.evidence("AAAA", found))


def _check_authority(domain: str, inside: dict[str, DnsAnswer], authority: Authority | None, level: Level) -> Finding:
    """Whether the domain's servers agree with each other and with the resolver."""
    key = "tls.dns_authoritative"
    if authority is None:
        said = f"the name servers of {domain} could not be asked themselves: the resolver's answer stands"
        return Finding(key, Level.INFO, said)
    if authority.split:
        said_by = {one.asked: list(one.values) for one in authority.split}
        one = authority.split[0]
        told = "; ".join(f"{asked}: {', '.join(values) or 'nothing'}" for asked, values in said_by.items())
        said = f"the name servers of {one.name} do not agree on its {one.kind} record ({told})"
        remedy = f"wait until all have the new zone, or look at the one that has not: dig {one.kind} {one.name} @…"
        return Finding(key, level, said, remedy, {"found": said_by})
    for kind, answer in inside.items():
        outside = authority.values(kind)
        if answer.is_answer and set(_values(answer.values)) != set(_values(outside)):
            here, there = (", ".join(one) or "nothing" for one in (answer.values, outside))
            said = f"the resolver says {kind} {here}, the name servers of {domain} say {there}"
            remedy = f"wait: others, too, may have the old answer for up to {answer.ttl} s"
            evidence = {"found": list(answer.values), "wanted": list(outside), "ttl": answer.ttl}
            return Finding(key, Level.WARN, said, remedy, evidence)
    return Finding(key, Level.OK, f"the resolver and the name servers of {domain} say the same")
