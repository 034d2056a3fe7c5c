"""DNS questions, by dnspython: to the system's resolver, or to one server of a zone. Never raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .server import DnsAnswer

if TYPE_CHECKING:
    import dns.message
    import dns.resolver

# One question takes at most 5 s: the resolver's lifetime; or two attempts of one server, each by UDP and by TCP.
LIFETIME_S = 4.0
ATTEMPT_S = 1.2
ATTEMPTS = 2
RESOLV_CONF = "/etc/resolv.conf"
# Answers whose text is nothing but a name.
NAMES = ("CNAME", "NS")


def resolve(
    name: str, kind: str, server: str | None = None, *, port: int = 53, resolv_conf: str = RESOLV_CONF
) -> DnsAnswer:
    """What the system's resolver says of the name, or the server at this address, which is asked not to recurse.

    /etc/hosts and search domains are left out: the world outside has neither.
    """
    import dns.exception

    asked = server or "recursive"
    try:
        if server is None:
            return _ask_resolver(name, kind, port, resolv_conf)
        return _ask_server(name, kind, server, port)
    except (dns.exception.DNSException, OSError, ValueError) as error:
        return DnsAnswer(name, kind, status=_status(error), asked=asked, detail=_words(error))


def _ask_resolver(name: str, kind: str, port: int, resolv_conf: str) -> DnsAnswer:
    import dns.name
    import dns.resolver

    resolver = dns.resolver.Resolver(resolv_conf)
    resolver.port = port
    resolver.timeout = ATTEMPT_S
    absolute = dns.name.from_text(name)
    try:
        found = resolver.resolve(absolute, kind, search=False, raise_on_no_answer=False, lifetime=LIFETIME_S)
    except dns.resolver.NXDOMAIN:
        return DnsAnswer(name, kind, status="nxdomain")
    except dns.resolver.NoNameservers as error:
        return DnsAnswer(name, kind, status=_refusal(error), detail=_words(error))
    return _read(found.response, DnsAnswer(name, kind))


def _ask_server(name: str, kind: str, server: str, port: int) -> DnsAnswer:
    import dns.exception
    import dns.flags
    import dns.message
    import dns.query
    import dns.rcode

    question = dns.message.make_query(name, kind, use_edns=0, payload=1232)
    question.flags &= ~dns.flags.RD
    for attempt in range(ATTEMPTS):
        try:
            response, _ = dns.query.udp_with_fallback(
                question, server, ATTEMPT_S, port, ignore_unexpected=True, ignore_errors=True
            )
            break
        except dns.exception.Timeout:
            if attempt == ATTEMPTS - 1:
                raise
    empty = DnsAnswer(name, kind, asked=server)
    if response.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN) and not response.flags & dns.flags.AA:
        return DnsAnswer(name, kind, status="lame", asked=server, detail="the server has no authority for this name")
    return _read(response, empty)


def _read(response: dns.message.Message, empty: DnsAnswer) -> DnsAnswer:
    """The records of the type that was asked for, at the end of the CNAMEs that this response has."""
    from dataclasses import replace

    import dns.message
    import dns.rcode

    code = response.rcode()
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN) or not isinstance(response, dns.message.QueryMessage):
        return replace(empty, status=dns.rcode.to_text(code).lower())
    chain = response.resolve_chaining()
    if chain.answer is None:
        return replace(empty, status="nxdomain" if code == dns.rcode.NXDOMAIN else "nodata", ttl=chain.minimum_ttl)
    values = {record.to_text() for record in chain.answer}
    if empty.kind in NAMES:
        values = {value.lower().rstrip(".") for value in values}
    return replace(empty, values=tuple(sorted(values)), ttl=chain.minimum_ttl)


def _refusal(error: dns.resolver.NoNameservers) -> str:
    """Why no server of the resolver answered: the last response's code, or that there was none.

    A CNAME loop comes as a good response that leads nowhere.
    """
    import dns.message
    import dns.rcode

    responses = [response for *_, response in error.kwargs.get("errors", ()) if response is not None]
    for response in reversed(responses):
        if isinstance(response, dns.message.Message):
            code = response.rcode()
            return "servfail" if code == dns.rcode.NOERROR else dns.rcode.to_text(code).lower()
    return "timeout" if error.kwargs.get("errors") else "unreachable"


def _status(error: Exception) -> str:
    import dns.exception
    import dns.message
    import dns.resolver

    if isinstance(error, dns.exception.Timeout | TimeoutError):
        return "timeout"
    if isinstance(error, OSError | dns.resolver.NoResolverConfiguration):
        return "unreachable"
    if isinstance(error, dns.message.ChainTooLong):
        return "servfail"
    return "invalid"


def _words(error: Exception) -> str:
    """The error in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split())[:200] or type(error).__name__
