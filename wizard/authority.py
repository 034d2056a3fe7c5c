"""What a domain's own name servers say. A CA asks them; the system's resolver may still have what was before."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from .caa import parents
from .server import DnsAnswer, Server

# Resolvers give up after about as many.
MOST_ALIASES = 8
MOST_SERVERS = 4


@dataclass(frozen=True)
class Chain:
    """The names that CNAME records lead through, the domain first. `is_loop`: they lead nowhere."""

    names: tuple[str, ...]
    is_loop: bool = False

    @property
    def last(self) -> str:
        return self.names[-1]

    def __str__(self) -> str:
        return " → ".join(self.names)


@dataclass(frozen=True)
class Authority:
    """The zone's answers for the last name of the chain: one of each type from each server that answered."""

    chain: Chain
    a: tuple[DnsAnswer, ...] = ()
    aaaa: tuple[DnsAnswer, ...] = ()
    # Of one alias: what the servers say where they do not say the same.
    split_alias: tuple[DnsAnswer, ...] = ()

    def values(self, kind: str) -> tuple[str, ...]:
        """What any of them says."""
        answers = self.a if kind == "A" else self.aaaa
        return tuple(sorted({value for answer in answers for value in answer.values}))

    @property
    def split(self) -> tuple[DnsAnswer, ...]:
        """The answers to a question that the servers answer differently; () where they agree."""
        if self.split_alias:
            return self.split_alias
        return next((told for told in (self.a, self.aaaa) if len({one.values for one in told}) > 1), ())


def follow(server: Server, domain: str) -> Chain:
    """The CNAME records as the system's resolver has them."""
    names = [domain]
    while target := next(iter(server.resolve(names[-1], "CNAME").values), ""):
        if target in names or len(names) > MOST_ALIASES:
            return Chain((*names, target), is_loop=True)
        names.append(target)
    return Chain(tuple(names))


def find_name_servers(server: Server, name: str) -> tuple[str, ...]:
    """Addresses of the servers of the zone that the name is in, one each; () where they could not be learned."""
    for zone in parents(name):
        # An alias has no zone of its own, and the resolver would answer for what it points to.
        if server.resolve(zone, "CNAME").values:
            continue
        answer = server.resolve(zone, "NS")
        if answer.status == "timeout":
            return ()
        if answer.values:
            found = (_address(server, one) for one in answer.values[:MOST_SERVERS])
            return tuple(dict.fromkeys(one for one in found if one))
    return ()


def _address(server: Server, name: str) -> str:
    return next((value for kind in ("A", "AAAA") for value in server.resolve(name, kind).values), "")


def ask_authority(server: Server, domain: str) -> Authority | None:
    """The answers of the domain's own servers, aliases followed; None where no server of a zone answered."""
    names = [domain]
    split: tuple[DnsAnswer, ...] = ()
    while True:
        told = _ask_all(server, names[-1], "CNAME", find_name_servers(server, names[-1]))
        if not told:
            return None
        if len({one.values for one in told}) > 1:
            split = split or told
        target = next((value for one in told for value in one.values), "")
        if not target:
            break
        if target in names or len(names) > MOST_ALIASES:
            return Authority(Chain((*names, target), is_loop=True), split_alias=split)
        names.append(target)
    addresses = tuple(one.asked for one in told)
    a, aaaa = (_ask_all(server, names[-1], kind, addresses) for kind in ("A", "AAAA"))
    return Authority(Chain(tuple(names)), a, aaaa, split) if a and aaaa else None


def _ask_all(server: Server, name: str, kind: str, addresses: tuple[str, ...]) -> tuple[DnsAnswer, ...]:
    """The servers' answers, asked at once; without those that gave none."""
    if not addresses:
        return ()
    with ThreadPoolExecutor(len(addresses)) as pool:
        answers = tuple(pool.map(lambda address: server.resolve(name, kind, address), addresses))
    return tuple(one for one in answers if one.is_answer)
