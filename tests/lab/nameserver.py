"""A name server, run as a program: FILE RESOLVER AUTHORITY...  (addresses with ports)

FILE is what names.py writes, read again at each question. At RESOLVER it answers as a recursive resolver does: it
follows CNAMEs everywhere, and a loop is SERVFAIL. At AUTHORITY it answers as the server of the zones: with
authority, only from the zone that was asked, and REFUSED for what is in no zone. Over UDP and TCP.
"""

import json
import socket
import socketserver
import struct
import sys
import threading
from pathlib import Path

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

TTL = 60
NAMESERVER = "ns1.dns.lab."
Rows = dict[dns.rdatatype.RdataType, list[dns.rdata.Rdata]]


class Zones:
    """All that FILE says, for one question."""

    def __init__(self, text: str, *, resolver: bool) -> None:
        told = json.loads(text)
        records = told["records"] | (told["stale"] if resolver else {})
        self.resolver = resolver
        self.rows = {dns.name.from_text(name): _rows(lines) for name, lines in records.items()}
        self.failures = {dns.name.from_text(name): how for name, how in told["failures"].items()}
        gone = {dns.name.from_text(name) for name, lines in records.items() if not lines}
        declared = {dns.name.from_text(name) for name in told["zones"]}
        self.zones = declared | {dns.name.Name(name.labels[-3:]) for name in self.rows if name not in gone}
        for apex in self.zones:
            rows = self.rows.setdefault(apex, {})
            rows.setdefault(dns.rdatatype.NS, _rows([f"NS {NAMESERVER}"])[dns.rdatatype.NS])
            soa = f"SOA {NAMESERVER} hostmaster.{apex.to_text()} 1 3600 600 86400 1"
            rows.setdefault(dns.rdatatype.SOA, _rows([soa])[dns.rdatatype.SOA])

    def zone_of(self, name: dns.name.Name) -> dns.name.Name | None:
        """The apex of the zone that a name is in."""
        return max((apex for apex in self.zones if name.is_subdomain(apex)), key=len, default=None)

    def failure(self, name: dns.name.Name) -> str | None:
        """How questions for this name fail."""
        above = [one for one in self.failures if name.is_subdomain(one)]
        return self.failures[max(above, key=len)] if above else None

    def exists(self, name: dns.name.Name) -> bool:
        """Whether the name, or one below it, has records."""
        return any(rows and one.is_subdomain(name) for one, rows in self.rows.items())

    def fill(self, response: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> None:
        """Write the answer to a question into `response`."""
        first = self.zone_of(name)
        if first is None and not self.resolver:
            response.set_rcode(dns.rcode.REFUSED)
            return
        seen: set[dns.name.Name] = set()
        while name not in seen:
            seen.add(name)
            if self.failure(name) is not None:
                response.set_rcode(dns.rcode.SERVFAIL)
                return
            rows = self.rows.get(name, {})
            if kind in rows:
                _add(response.answer, name, kind, rows[kind])
                return
            if dns.rdatatype.CNAME not in rows:
                self._nothing(response, name)
                return
            _add(response.answer, name, dns.rdatatype.CNAME, rows[dns.rdatatype.CNAME])
            name = rows[dns.rdatatype.CNAME][0].target  # type: ignore[attr-defined]
            if not self.resolver and self.zone_of(name) != first:
                return
        if self.resolver:
            response.answer.clear()
            response.set_rcode(dns.rcode.SERVFAIL)

    def _nothing(self, response: dns.message.Message, name: dns.name.Name) -> None:
        if not self.exists(name):
            response.set_rcode(dns.rcode.NXDOMAIN)
        apex = self.zone_of(name)
        if apex is not None:
            _add(response.authority, apex, dns.rdatatype.SOA, self.rows[apex][dns.rdatatype.SOA])


def _rows(lines: list[str]) -> Rows:
    rows: Rows = {}
    for line in lines:
        word, _, rest = line.partition(" ")
        kind = dns.rdatatype.from_text(word)
        record = dns.rdata.from_text(dns.rdataclass.IN, kind, rest, origin=dns.name.root, relativize=False)
        rows.setdefault(kind, []).append(record)
    return rows


def _add(
    section: list[dns.rrset.RRset], name: dns.name.Name, kind: dns.rdatatype.RdataType, rows: list[dns.rdata.Rdata]
) -> None:
    section.append(dns.rrset.from_rdata_list(name, TTL, rows))


def answer(text: str, wire: bytes, *, resolver: bool) -> bytes | None:
    """The answer to a question, in wire format; None: not a word."""
    query = dns.message.from_wire(wire)
    response = dns.message.make_response(query, recursion_available=resolver)
    if len(query.question) != 1:
        response.set_rcode(dns.rcode.FORMERR)
        return response.to_wire()
    (question,) = query.question
    zones = Zones(text, resolver=resolver)
    failure = zones.failure(question.name)
    if failure == "silent":
        return None
    if failure is not None:
        response.set_rcode(dns.rcode.from_text(failure.upper()))
        return response.to_wire()
    if not resolver:
        response.flags |= dns.flags.AA
    zones.fill(response, question.name, question.rdtype)
    if response.rcode() == dns.rcode.REFUSED:
        response.flags &= ~dns.flags.AA
    return response.to_wire()


class Place:
    """One address that questions come to."""

    def __init__(self, file: Path, address: str, *, resolver: bool) -> None:
        host, _, port = address.rpartition(":")
        where = (host.strip("[]"), int(port))

        def ask(wire: bytes) -> bytes | None:
            return answer(file.read_text(), wire, resolver=resolver)

        class Datagram(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                wire, connection = self.request
                told = ask(wire)
                if told is not None:
                    connection.sendto(told, self.client_address)

        class Stream(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while head := self.rfile.read(2):
                    told = ask(self.rfile.read(struct.unpack("!H", head)[0]))
                    if told is None:
                        return
                    self.wfile.write(struct.pack("!H", len(told)) + told)

        family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET

        class Udp(socketserver.ThreadingUDPServer):
            address_family = family
            daemon_threads = True

        class Tcp(socketserver.ThreadingTCPServer):
            address_family = family
            allow_reuse_address = True
            daemon_threads = True

        for server in (Udp(where, Datagram), Tcp(where, Stream)):
            threading.Thread(target=server.serve_forever).start()


def main(file: str, resolver: str, *authorities: str) -> None:
    """Serve until killed."""
    for address in authorities:
        Place(Path(file), address, resolver=False)
    Place(Path(file), resolver, resolver=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
