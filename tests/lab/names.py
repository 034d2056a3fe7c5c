"""The names of the lab's internet: what the zones say, what the resolver says, and how both may fail."""

import json
import sys
from pathlib import Path
from typing import Literal

from tests.lab import cache
from tests.lab.service import Service
from tests.lab.space import GATE, GATE6, NAMESERVER, NAMESERVER6, Space

UPSTREAM = "127.0.0.1:5300"  # the recursive side of nameserver.py, which dnsmasq asks
Failure = Literal["servfail", "refused", "silent"]


class Names:
    """Records in the words of a zone file, without name and TTL: "A 10.91.1.2", "CAA 0 issue \\"ca.example\\"".

    A name belongs to the zone of its last two labels, unless `zone` says otherwise. Each zone has a SOA and an NS
    record, and is served with authority at 10.91.0.2 (ns1.dns.lab). Hosts ask dnsmasq at the gate, which forwards.
    Changes hold from the next question on.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._place = space.files / "names.json"
        self._zone_server: Service | None = None
        self._dnsmasq: Service | None = None
        self._was_silent = False
        self._known: dict[str, list[str]] = {}

    def clear(self) -> None:
        """Forget all names but the lab's own."""
        self._records = {name: list(records) for name, records in self._known.items()}
        self._stale: dict[str, list[str]] = {}
        self._failures: dict[str, Failure] = {}
        self._zones: list[str] = []
        self._write()

    def know(self, name: str, *records: str) -> None:
        """A name of the lab's own, which `clear` keeps."""
        self._known[name] = list(records)
        if self._zone_server is not None:
            self.set(name, *records)

    def set(self, name: str, *records: str) -> None:
        """All records of a name, from now on; with none it stops to exist."""
        self._records.pop(name, None)
        if records:
            self._records[name] = list(records)
        self._write()

    def zone(self, apex: str) -> None:
        """Let a name begin a zone of its own: "example.co.uk", "sub.example.com"."""
        self._zones.append(apex)
        self._write()

    def stale(self, name: str, *records: str) -> None:
        """What the resolver still says of a name (none: it does not exist), while the zone may say something else."""
        self._stale[name] = list(records)
        self._write()

    def fail(self, name: str, how: Failure | None = "servfail") -> None:
        """Let questions for a name, and all below it, fail ("." is all of DNS); None ends that."""
        self._failures.pop(name, None)
        if how is not None:
            self._failures[name] = how
        self._write()

    def _write(self) -> None:
        told = {"records": self._records, "stale": self._stale, "failures": self._failures, "zones": self._zones}
        beside = self._place.with_suffix(".new")
        beside.write_text(json.dumps(told, indent=1))
        beside.replace(self._place)
        silent = "silent" in self._failures.values()
        if self._was_silent and not silent and self._dnsmasq is not None:
            # it would hold back a question that it has sent already, for up to ten seconds
            self._dnsmasq.stop()
            self._dnsmasq = self._start_dnsmasq()
        self._was_silent = silent

    def open(self, log: Path) -> None:
        """Start both servers; returns when both listen."""
        self._log = log
        self.clear()
        program = [sys.executable, "-I", str(cache.HERE / "nameserver.py"), str(self._place), UPSTREAM]
        self._zone_server = Service(
            self._space, [*program, f"{NAMESERVER}:53", f"[{NAMESERVER6}]:53"], log.with_name("zones.log")
        )
        self._dnsmasq = self._start_dnsmasq()
        self._zone_server.wait_for(f"{NAMESERVER}:53", UPSTREAM)

    def _start_dnsmasq(self) -> Service:
        argv = [
            *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file="),
            *("--no-resolv", "--no-hosts", f"--server={UPSTREAM.replace(':', '#')}", "--cache-size=0"),
            *(f"--listen-address={GATE}", f"--listen-address={GATE6}", "--bind-interfaces"),
            *("--log-queries", "--log-facility=-"),
        ]
        started = Service(self._space, argv, self._log)
        started.wait_for(f"{GATE}:53")
        return started

    def close(self) -> None:
        """Wait for the servers' end, which the lab's end has brought."""
        for service in (self._zone_server, self._dnsmasq):
            if service is not None:
                service.close()
        self._zone_server = self._dnsmasq = None
