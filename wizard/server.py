"""Server: all that a step may ask or do, and the facts that it gets.

Two protocols. A `Machine` is the outside world as it answers: commands, files, sockets, requests. `Facts` reads
typed facts from any machine, the real one or a recorded one, through the same parsers. A `Server` is what steps
see: those facts, and the doing. Overlays are servers too.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .model import Action, Output, Secret
from .parse.netfilter import Ruleset
from .parse.ufw import UfwDefaults, UfwRule


@dataclass(frozen=True)
class FileState:
    """A file as it is: `kind` is file, directory, link or other; a link's content is its target."""

    kind: str
    content: bytes = field(default=b"", repr=False)
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")


@dataclass(frozen=True)
class Unit:
    """A unit as `systemctl show` has it. `enabled` is UnitFileState: enabled, disabled, static, masked, …"""

    name: str
    load: str
    active: str
    sub: str
    enabled: str
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def exists(self) -> bool:
        return self.load not in ("not-found", "")

    @property
    def is_active(self) -> bool:
        return self.active in ("active", "reloading")

    @property
    def is_enabled(self) -> bool:
        return self.enabled in ("enabled", "enabled-runtime", "alias", "static", "indirect", "generated")


@dataclass(frozen=True)
class Listener:
    """A socket that waits for connections. `unit` is the systemd unit whose control group owns it."""

    address: str
    port: int
    program: str = ""
    pid: int = 0
    unit: str = ""

    @property
    def is_loopback(self) -> bool:
        return self.address.startswith("127.") or self.address == "::1"

    @property
    def is_wildcard(self) -> bool:
        return self.address in ("0.0.0.0", "::", "")

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Package:
    name: str
    installed: bool
    version: str = ""
    half_configured: bool = False
    held: bool = False


@dataclass(frozen=True)
class Address:
    """An address of an interface; `primary` are those that the default route leaves from, one a family."""

    interface: str
    address: str
    primary: bool = False


@dataclass(frozen=True)
class Firewall:
    """ufw as its files say and as the kernel has it. `loaded` is None where the kernel could not be asked.

    `cut_off` are the files of rules whose end is missing.
    """

    installed: bool
    enabled: bool
    loaded: bool | None
    rules: tuple[UfwRule, ...]
    defaults: UfwDefaults
    kernel4: Ruleset | None = None
    kernel6: Ruleset | None = None
    cut_off: tuple[str, ...] = ()
    log_level: str = "low"


@dataclass(frozen=True)
class Request:
    """An HTTP request to `address:port`. `host` is the Host header and, with `tls`, the SNI (none for an address).

    `ca_file` is the PEM that the certificate is checked with ("" for the system's store, None for no check).
    """

    address: str
    port: int
    method: str = "GET"
    path: str = "/"
    host: str = ""
    tls: bool = False
    server_name: str | None = None
    ca_file: str | None = None
    bearer: Secret | None = None
    body: bytes = field(default=b"", repr=False)
    content_type: str = "application/json"
    timeout_s: float = 10
    unix: str = ""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def key(self) -> str:
        """What a recording finds it by: no secret in it."""
        scheme = "https" if self.tls else "http"
        auth = " key" if self.bearer else ""
        more = "".join(f" {name}" for name, _ in self.headers)
        return f"{self.method} {scheme}://{self.address}:{self.port}{self.path} host={self.host}{auth}{more}"


@dataclass(frozen=True)
class Response:
    """What came back. `status=0` and `error`: nothing did.

    `pieces` are the arrival times (ms) of the body's parts, `certificate` the server's own, as DER.
    """

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    error: str = ""
    ms: float = 0.0
    tls_version: str = ""
    pieces: tuple[tuple[float, bytes], ...] = ()
    certificate: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


NOTHING = Response(0)
CONNECTION_REFUSED = "connection refused"


@dataclass(frozen=True)
class DnsAnswer:
    """What a DNS server says of one name and one type of record (A, AAAA, CNAME, CAA, NS, SOA).

    `status` is "ok" (with `values`), "nodata" (the name exists, the record does not), "nxdomain", "servfail",
    "refused", "timeout", "lame" (the server has no authority for the name), or another word for no answer; `detail`
    says more.
    Names in `values` are in small letters, without the final dot. `ttl` is in seconds. `asked` is "recursive" (the
    system's own resolver) or the address of the authoritative server.
    """

    name: str
    kind: str
    values: tuple[str, ...] = ()
    status: str = "ok"
    ttl: int = 0
    asked: str = "recursive"
    detail: str = ""

    @property
    def is_answer(self) -> bool:
        """True if it was said what there is, be it nothing."""
        return self.status in ("ok", "nodata", "nxdomain")


@dataclass(frozen=True)
class Operator:
    """Where the person sits who runs this: the SSH connection's far end, and the port that it came in by."""

    address: str
    port: int


@dataclass(frozen=True)
class Target:
    """A port that packets are sent to; `expected` is one that should answer, and is waited for longer."""

    address: str
    port: int
    expected: bool = field(default=False, compare=False)

    @property
    def line(self) -> str:
        """As probe.py reads it."""
        return f"{self.address},{self.port}{',expected' if self.expected else ''}"


@dataclass(frozen=True)
class Reach:
    """What packets from a fresh network namespace met: open, refused, filtered; unknown with the reason in `detail`."""

    target: Target
    state: str
    detail: str = ""
    ms: float = 0.0


def read_through(server: Server, path: str, named_by: FileState | None = None) -> FileState | None:
    """The file that a path leads to, its links followed by hand: a few, and each one is seen.

    Where another user than root made one of them, or owns the file that names the path, it is None unless that user
    could read it, too: nobody gets at a file through us.
    """
    asking = [] if named_by is None else [named_by]
    for _ in range(8):
        state = server.read(path)
        if state is None or state.kind != "link":
            others = [one for one in asking if one.owner != "root"]
            return state if state is None or all(_may_read(server, path, state, one) for one in others) else None
        asking.append(state)
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), state.text))
    return None


def _may_read(server: Server, path: str, state: FileState, asking: FileState) -> bool:
    """Whether the owner of a file may read another, as its mode says, and enter the directories that lead there."""

    def allows(one: FileState, others: int) -> bool:
        if one.owner == asking.owner:
            return True
        return bool(one.mode & others or (one.group == asking.group and one.mode & others << 3))

    if not allows(state, 0o004):
        return False
    while (path := posixpath.dirname(path)) != "/":
        directory = server.read(path)
        if directory is None or not allows(directory, 0o001):
            return False
    return True


class Machine(Protocol):
    """The outside world, raw: what is real in production, and recorded in tests."""

    def command(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 60,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
    ) -> Output: ...

    def read(self, path: str) -> FileState | None: ...

    def names(self, directory: str) -> tuple[str, ...]: ...

    def listeners(self) -> tuple[Listener, ...]: ...

    def addresses(self) -> tuple[Address, ...]: ...

    def host_names(self) -> tuple[str, ...]: ...

    def exchange(self, request: Request) -> Response: ...

    def fetch(self, url: str, timeout_s: float, ca_file: str | None = None) -> Response: ...

    def resolve(self, name: str, kind: str, server: str | None = None) -> DnsAnswer: ...

    def reach(self, targets: Sequence[Target]) -> tuple[Reach, ...]: ...

    def connections(self, ports: Sequence[int]) -> tuple[str, ...]: ...

    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class Server(Protocol):
    """What a step may ask. Everything here only looks, but `perform`, which the engine alone calls."""

    def read(self, path: str) -> FileState | None: ...

    def names(self, directory: str) -> tuple[str, ...]: ...

    def query(self, argv: Sequence[str], timeout_s: float = 30, stdin: bytes = b"") -> Output: ...

    def expect(self, queries: Sequence[Sequence[str]], units: Sequence[str] = ()) -> None: ...

    def expect_fetch(self, url: str, timeout_s: float, ca_file: str | None = None) -> None: ...

    def units(self, *names: str) -> dict[str, Unit]: ...

    def listeners(self) -> tuple[Listener, ...]: ...

    def addresses(self) -> tuple[Address, ...]: ...

    def host_names(self) -> tuple[str, ...]: ...

    def packages(self, *names: str) -> dict[str, Package]: ...

    def half_configured(self) -> tuple[str, ...]: ...

    def offered(self, repository: str, package: str) -> tuple[str, ...]: ...

    def firewall(self) -> Firewall: ...

    def exchange(self, request: Request) -> Response: ...

    def reach(self, targets: Sequence[Target]) -> tuple[Reach, ...]: ...

    def connections(self, ports: Sequence[int]) -> tuple[str, ...]: ...

    def vllm_ready(self, request: Request) -> Response: ...

    def caddy_runs(self, path: str) -> bool | None: ...

    def fetch(self, url: str, timeout_s: float, ca_file: str | None = None) -> Response: ...

    def resolve(self, name: str, kind: str, server: str | None = None) -> DnsAnswer: ...

    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...

    def refresh(self) -> None: ...

    def perform(self, action: Action) -> Output: ...
