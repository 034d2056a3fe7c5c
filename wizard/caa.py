"""CAA records (RFC 8659): which CAs may issue for a name, as each CA has to look before it does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from .model import Finding, Level
from .server import DnsAnswer, Server

KEY = "tls.dns_caa"
LETS_ENCRYPT = "letsencrypt.org"
CRITICAL = 128
# RFC 8659, 8657 and 9495: the properties that a CA understands; of the others it may pass over the uncritical ones.
KNOWN_TAGS = ("issue", "issuewild", "iodef", "contactemail", "contactphone", "issuemail", "issuevmc")
# How Caddy answers a CA here; dns-01 would need a plugin.
METHODS = ("http-01", "tls-alpn-01")
RECORD = re.compile(r'^(\d{1,3})\s+([A-Za-z0-9]+)\s+"?(.*?)"?$', re.S)


@dataclass(frozen=True)
class Property:
    """One CAA record. `issuer` is "" where no CA is meant; parameters are the issuer's own."""

    flags: int
    tag: str
    issuer: str
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def is_unknown_and_critical(self) -> bool:
        return bool(self.flags & CRITICAL) and self.tag not in KNOWN_TAGS

    @property
    def allows_methods(self) -> bool:
        """False if validationmethods (RFC 8657) names none of those that are used here."""
        named = self.parameters.get("validationmethods")
        return named is None or any(one.strip() in METHODS for one in named.split(","))


def parse_property(record: str) -> Property | None:
    """`0 issue "ca.example; accounturi=…"`, as dnspython writes it; None where it is no CAA record."""
    found = RECORD.match(record.strip())
    if found is None:
        return None
    issuer, *rest = (part.strip() for part in found[3].replace('\\"', '"').split(";"))
    pairs = (part.partition("=") for part in rest if part)
    parameters = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return Property(int(found[1]), found[2].lower(), issuer.lower().rstrip("."), parameters)


def parents(name: str) -> Iterator[str]:
    """The name, then each one above it, without the root."""
    labels = name.rstrip(".").split(".")
    for number in range(len(labels)):
        yield ".".join(labels[number:])


def find_caa(server: Server, domain: str) -> DnsAnswer:
    """The records that hold for the domain: its own or the nearest parent's; else the last answer, or the failure."""
    answer = DnsAnswer(domain, "CAA", status="nodata")
    for name in parents(domain):
        answer = server.resolve(name, "CAA")
        if answer.values or not answer.is_answer:
            break
    return answer


def known_identities(directory: str, identities: tuple[str, ...]) -> tuple[str, ...]:
    """What the CA calls itself in CAA records: its directory's caaIdentities; Let's Encrypt's is known; else ()."""
    if identities:
        return tuple(one.lower().rstrip(".") for one in identities)
    host = urlsplit(directory).hostname or ""
    return (LETS_ENCRYPT,) if host.endswith(f".api.{LETS_ENCRYPT}") else ()


def check_caa(server: Server, domain: str, identities: tuple[str, ...], level: Level) -> Finding:
    answer = find_caa(server, domain)
    if not answer.is_answer:
        return _unanswered(answer, level)
    properties = tuple(found for one in answer.values if (found := parse_property(one)))
    if not properties:
        return Finding(KEY, Level.OK, f"no CAA record of {domain}, or above it, keeps a CA out")
    evidence: dict[str, Any] = {
        "name": answer.name,
        "found": list(answer.values),
        "wanted": [f'0 issue "{one}"' for one in identities],
    }
    return _judge(answer, properties, identities, level, evidence)


def _judge(
    answer: DnsAnswer,
    properties: tuple[Property, ...],
    identities: tuple[str, ...],
    level: Level,
    evidence: dict[str, Any],
) -> Finding:
    strange = next((one for one in properties if one.is_unknown_and_critical), None)
    if strange is not None:
        said = f"a CAA record of {answer.name} has the critical property “{strange.tag}”, which no CA may pass over"
        remedy = f"remove that record, or its critical flag, at the DNS of {answer.name}"
        return Finding(KEY, level, said, remedy, evidence)
    issue = [one for one in properties if one.tag == "issue"]
    if not issue:
        return Finding(KEY, Level.OK, f"the CAA records of {answer.name} keep no CA out", evidence=evidence)
    if not identities and any(one.issuer for one in issue):
        named = " and ".join(one.issuer or "no CA" for one in issue)
        said = f"the CAA records of {answer.name} allow {named} alone, and this CA does not say what it is called there"
        remedy = "ask the CA for its CAA name, and compare"
        return Finding(KEY, Level.WARN, said, remedy, evidence)
    ours = [one for one in issue if one.issuer in identities]
    usable = [one for one in ours if one.allows_methods]
    if not usable:
        identity = identities[0] if identities else "the CA"
        return _forbidden(answer, ours or issue, identity, level, evidence, by_method=bool(ours))
    if not any("accounturi" not in one.parameters for one in usable):
        said = f"the CAA record of {answer.name} allows {usable[0].issuer} for one account alone, perhaps another's"
        remedy = f"compare its accounturi with Caddy's account, or remove it at the DNS of {answer.name}"
        return Finding(KEY, Level.WARN, said, remedy, evidence)
    return Finding(KEY, Level.OK, f"the CAA records of {answer.name} allow {usable[0].issuer}", evidence=evidence)


def _forbidden(
    answer: DnsAnswer,
    properties: list[Property],
    identity: str,
    level: Level,
    evidence: dict[str, Any],
    *,
    by_method: bool,
) -> Finding:
    cached = f"; the resolver may keep the old ones for {answer.ttl} s" if answer.ttl else ""
    if by_method:
        methods = properties[0].parameters["validationmethods"]
        said = f"the CAA record of {answer.name} allows {identity} by {methods} alone, which is not done here"
        remedy = f"add http-01 to its validationmethods at the DNS of {answer.name}{cached}"
        return Finding(KEY, level, said, remedy, evidence)
    named = ", ".join(dict.fromkeys(one.issuer for one in properties if one.issuer))
    allowed = f"{named}, and not {identity}" if named else f"no CA at all, and so not {identity}"
    said = f"the CAA records of {answer.name} allow {allowed}"
    remedy = f'add this record at your DNS provider: {answer.name}. CAA 0 issue "{identity}"{cached}'
    return Finding(KEY, level, said, remedy, evidence)


def _unanswered(answer: DnsAnswer, level: Level) -> Finding:
    evidence = {"name": answer.name, "status": answer.status, "detail": answer.detail}
    if answer.status == "servfail":
        said = f"the question for the CAA records of {answer.name} fails (SERVFAIL), and a CA refuses then"
        remedy = f"have the name servers of {answer.name}, or its DNSSEC, put right; try: dig CAA {answer.name}"
        return Finding(KEY, level, said, remedy, evidence)
    said = f"the CAA records of {answer.name} could not be read ({answer.status}): a CA that they forbid refuses"
    return Finding(KEY, Level.WARN, said, f"look yourself: dig CAA {answer.name}", evidence)
