"""The gate: the lab's own internet. Names, and web servers on ports 80 and 443 of its address."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.lab import cache
from tests.lab.archive import ARCHIVE, CLOUDSMITH, Internet, caddy_binary
from tests.lab.names import Names
from tests.lab.server import Server
from tests.lab.service import Service
from tests.lab.space import BRIDGE, GATE, GATE6, NAMESERVER, NAMESERVER6, Space
from tests.lab.way import Block, Way

DRIPPING = "10.91.0.5"  # at the gate: what answers slowly
CADDYFILE = """\
{{
	admin off
	auto_https off
	persist_config off
	servers {{
		protocols h1 h2
	}}
}}
(site) {{
	bind {gate} {gate6}
	log {{
		output file {files}/{{args[0]}}.log
	}}
	root * {root}/{{args[0]}}
	file_server
}}
https://{cloudsmith} {{
	tls {internet}/server.pem {internet}/server.key
	import site {cloudsmith}
}}
http://{archive} {{
	import site {archive}
}}
"""


class Gate:
    """What the hosts find on their network. `root` is writable: a copy per lab, of one directory per name.

    `names` has all records; `way` is what lies between the gate and the hosts.
    """

    def __init__(self, space: Space, internet: Internet, base_root: Path) -> None:
        self._space = space
        self.internet = internet
        self.files = space.files / "gate"
        self._disk = space.disk / "gate"
        self._web: Service | None = None
        self._dripping: Service | None = None
        self.names = Names(space)
        self.way = Way(space, base_root)

    @property
    def root(self) -> Path:
        """Directories named as the web servers are; change files here to change what the servers answer."""
        return self._space.inside(self._disk / "root")

    def open(self) -> None:
        """Start the name servers and the web server; returns when all answer."""
        self.files.mkdir(parents=True)
        self._space.run(["sh", "-c", OVERLAY, "sh", self.internet.path, self._disk])
        self.way.open()
        self.way.ip(f"addr add {NAMESERVER}/16 dev {BRIDGE}\naddr add {NAMESERVER6}/64 dev {BRIDGE} nodad")
        self.names.know("ns1.dns.lab", f"A {NAMESERVER}", f"AAAA {NAMESERVER6}")
        for name in (CLOUDSMITH, ARCHIVE):
            self.names.know(name, f"A {GATE}", f"AAAA {GATE6}")
        caddyfile = CADDYFILE.format(
            gate=GATE,
            gate6=f"[{GATE6}]",
            root=self._disk / "root",
            internet=self.internet.path,
            files=self.files,
            cloudsmith=CLOUDSMITH,
            archive=ARCHIVE,
        )
        (self.files / "Caddyfile").write_text(caddyfile)
        run_caddy: list[str | Path] = [
            caddy_binary(),
            "run",
            "--adapter",
            "caddyfile",
            "--config",
            self.files / "Caddyfile",
        ]
        home = {"XDG_DATA_HOME": str(self.files), "XDG_CONFIG_HOME": str(self.files)}
        self._web = Service(self._space, run_caddy, self.files / "caddy.log", home)
        self.names.open(self.files / "dnsmasq.log")
        self._web.wait_for(f"{GATE}:80", f"{GATE}:443")

    @contextlib.contextmanager
    def dripping(self, within: str, bytes_per_second: float, share: float = 1) -> Iterator[None]:
        """Let Caddy's repository answer slowly for paths that have this in them, and close the connection after this
        share of the file; see dripping.py."""
        how = self.files / "dripping.json"
        how.write_text(json.dumps({"within": within, "bytes_per_second": bytes_per_second, "share": share}))
        if self._dripping is None:
            self.way.ip(f"addr add {DRIPPING}/16 dev {BRIDGE}")
            pem = [self.internet.path / "server.pem", self.internet.path / "server.key"]
            argv: list[str | Path] = [
                sys.executable,
                "-I",
                cache.HERE / "dripping.py",
                how,
                self._disk / "root",
                *pem,
                DRIPPING,
            ]
            self._dripping = Service(self._space, argv, self.files / "dripping.log")
            self._dripping.wait_for(f"{DRIPPING}:443")
        self.names.set(CLOUDSMITH, f"A {DRIPPING}")
        try:
            yield
        finally:
            self.names.set(CLOUDSMITH, f"A {GATE}", f"AAAA {GATE6}")

    def name(self, name: str, *addresses: str) -> None:
        """Let a name point to these addresses (none: it stops to exist), from now on; more in `names`."""
        self.names.set(name, *(f"{'AAAA' if ':' in address else 'A'} {address}" for address in addresses))

    def block(self, server: Server, port: int, how: Block = "silent") -> None:
        """Let nothing through to a TCP port of a host; see `way`. Pebble waits 15 s for what is silent."""
        self.way.block(server, port, how)

    def unblock(self, server: Server, port: int) -> None:
        """End that."""
        self.way.unblock(server, port)

    def requests(self, name: str) -> list[str]:
        """The web server's access log for a name: one JSON document a line."""
        log = self.files / f"{name}.log"
        return log.read_text().splitlines() if log.exists() else []

    def log(self) -> str:
        """What the gate's own servers said."""
        return "".join((self.files / f"{name}.log").read_text(errors="replace") for name in ("dnsmasq", "caddy"))

    def close(self) -> None:
        """Forget the servers; the namespaces' end has ended them."""
        if self._web is not None:
            self._web.close()
            self._web = None
        if self._dripping is not None:
            self._dripping.close()
            self._dripping = None
        self.names.close()


OVERLAY = """\
mkdir -p "$2/root" "$2/upper" "$2/work"
mount -t overlay lab -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
"""
