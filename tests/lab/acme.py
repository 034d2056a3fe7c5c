"""An ACME certificate authority at https://acme.lab/dir: Pebble behind a web server that can refuse.

Pebble asks the gate's resolver and connects to ports 80 and 443 of what it finds, through the host's own firewall.
"""

import json
import time
from email.utils import formatdate
from pathlib import Path

import trustme

from tests.lab import cache
from tests.lab.archive import caddy_binary
from tests.lab.base import Base
from tests.lab.layers import lowerdir
from tests.lab.machine import run
from tests.lab.mirror import download
from tests.lab.service import Service
from tests.lab.space import BRIDGE, CA, CA6, GATE, Space

NAME = "acme.lab"
STAGING = "acme-staging.lab"  # the same authority under a name as Let's Encrypt's staging one has
PEBBLE, MANAGEMENT = "127.0.0.1:14000", "127.0.0.1:15000"
# No sleep before a validation; no good nonce refused; every order validated anew.
ENVIRONMENT = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"}
# An account that was made beforehand (EAB): the one that is taken while such accounts alone are.
KEY_ID, MAC_KEY = "kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
STATUSES = (400, 403, 429, 500, 503)
CADDYFILE = """\
{{
	admin off
	auto_https off
	persist_config off
	servers {{
		protocols h1 h2
	}}
}}
https://{name}, https://{staging} {{
	bind {address} [{address6}]
	tls {files}/directory.pem {files}/directory.key
	log {{
		output file {files}/requests.log
	}}
{date}{refusals}
	reverse_proxy https://{pebble} {{
		header_up Host {{http.request.host}}
		transport http {{
			tls_insecure_skip_verify
		}}
	}}
}}
"""
REFUSAL = """\
	@refused{status} file {{
		root {files}/refused/{status}
		try_files {{path}}
	}}
	handle @refused{status} {{
		root * {files}/refused/{status}
		method GET
		header Content-Type application/problem+json
		header Retry-After 3600
		file_server {{
			status {status}
		}}
	}}
"""


def ensure_pebble(base: Base) -> Path:
    """Pebble's package, unpacked: a layer on top of the base."""

    def build(into: Path) -> None:
        download(base.layers[0], into / "debs", ["pebble"])
        (deb,) = (into / "debs").glob("*.deb")
        run(["dpkg-deb", "-x", deb, into / "tree"])

    return cache.built(f"pebble-{base.suite}", cache.key(base.layers[0], "1"), build) / "tree"


class Acme:
    """The authority. It knows its accounts and keeps its root for as long as the lab lives."""

    def __init__(self, space: Space, base: Base) -> None:
        self._space = space
        self._base = base
        self._files = space.files / "acme"
        self._front: Service | None = None
        self._pebble: Service | None = None
        self._date = ""
        self._bound = False
        self._trusted: bool | None = None
        self.directory = f"https://{NAME}/dir"
        self.staging_directory = f"https://{STAGING}/dir"
        self.ca_file = b""  # PEM of the authority of the directory's own certificate
        self.issuing_root = b""  # PEM of the root of all certificates that are issued here: another one

    def open(self) -> None:
        """Start it; returns when the directory answers."""
        self._files.mkdir()
        for status in STATUSES:
            (self._files / "refused" / str(status)).mkdir(parents=True)
        self._space.run(
            ["ip", "-batch", "-"],
            stdin=f"addr add {CA}/16 dev {BRIDGE}\naddr add {CA6}/64 dev {BRIDGE} nodad\n".encode(),
        )
        self._make_certificate(trusted=True)
        self._pebble = self._start_pebble()
        self._pebble.wait_for(PEBBLE, MANAGEMENT)
        self.issuing_root = self._get(f"https://{MANAGEMENT}/roots/0").encode()
        self._resources: dict[str, str] = json.loads(self._get(f"https://{PEBBLE}/dir"))
        self.start()

    def trust(self, trusted: bool = True) -> None:
        """Whether hosts trust the directory's own certificate by themselves, or need `ca_file`."""
        if trusted != self._trusted:
            self._make_certificate(trusted=trusted)
            self._restart()

    def _make_certificate(self, *, trusted: bool) -> None:
        """The directory's own certificate: of the lab's authority, or of one that no host trusts."""
        authority = trustme.CA(organization_name="private")
        if trusted:
            key = (self._base.internet.path / "ca.key").read_bytes()
            authority = trustme.CA.from_pem(self._base.internet.ca_file.read_bytes(), key)
        leaf = authority.issue_cert(NAME, STAGING)
        self.ca_file = authority.cert_pem.bytes()
        (self._files / "directory.pem").write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(self._files / "directory.key")
        self._trusted = trusted

    def _start_pebble(self) -> Service:
        """In a root of the hosts' own suite: Debian's program wants Debian's libc."""
        own, root = self._files / "layer", self._space.disk / "acme"
        config = {"listenAddress": PEBBLE, "managementListenAddress": MANAGEMENT, "httpPort": 80, "tlsPort": 443}
        config |= {"certificate": "/pebble/directory.pem", "privateKey": "/pebble/directory.key"}
        (own / "pebble").mkdir(parents=True)
        for name in ("directory.pem", "directory.key"):
            (own / "pebble" / name).write_bytes((self._files / name).read_bytes())
        bound = config | {"externalAccountBindingRequired": True, "externalAccountMACKeys": {KEY_ID: MAC_KEY}}
        (own / "pebble/config.json").write_text(json.dumps({"pebble": config}))
        (own / "pebble/bound.json").write_text(json.dumps({"pebble": bound}))
        layers = lowerdir([self._base.layers[0], ensure_pebble(self._base), own])
        self._space.run(["sh", "-c", 'mkdir "$2" && mount -t overlay lab -o "lowerdir=$1" "$2"', "sh", layers, root])
        return self._run_pebble("config")

    def _run_pebble(self, config: str) -> Service:
        root = self._space.disk / "acme"
        words = ["-config", f"/pebble/{config}.json", "-strict=false", "-dnsserver", f"{GATE}:53"]
        return Service(
            self._space, ["chroot", root, "/usr/bin/pebble", *words], self._files / "pebble.log", ENVIRONMENT
        )

    def bind(self, bound: bool = True) -> None:
        """Whether only an account that was made beforehand is taken (KEY_ID, MAC_KEY). All before is forgotten."""
        if self._pebble is None or bound == self._bound:
            return
        self._pebble.stop()
        self._bound = bound
        self._pebble = self._run_pebble("bound" if bound else "config")
        self._pebble.wait_for(PEBBLE, MANAGEMENT)
        self.issuing_root = self._get(f"https://{MANAGEMENT}/roots/0").encode()

    def _get(self, url: str) -> str:
        return self._space.run(["curl", "-sSfk", url]).stdout

    def start(self) -> None:
        """Up again after `stop`, with its accounts, orders and root."""
        if self._front is None:
            refusals = "".join(REFUSAL.format(files=self._files, status=status) for status in STATUSES)
            words = {
                "name": NAME,
                "staging": STAGING,
                "address": CA,
                "address6": CA6,
                "pebble": PEBBLE,
                "files": self._files,
            }
            words["date"] = f'\theader >Date "{self._date}"\n' if self._date else ""
            (self._files / "Caddyfile").write_text(CADDYFILE.format(**words, refusals=refusals))
            home = {"XDG_DATA_HOME": str(self._files), "XDG_CONFIG_HOME": str(self._files)}
            caddy: list[str | Path] = [
                caddy_binary(),
                "run",
                "--adapter",
                "caddyfile",
                "--config",
                self._files / "Caddyfile",
            ]
            self._front = Service(self._space, caddy, self._files / "caddy.log", home)
            self._front.wait_for(f"{CA}:443")

    def stop(self) -> None:
        """Down: connections to it are refused."""
        if self._front is not None:
            self._front.stop()
            self._front = None

    def _restart(self) -> None:
        if self._front is not None:
            self.stop()
            self.start()

    def clock(self, ahead: float = 0) -> None:
        """Let its answers be dated so many seconds from now (they stay at that moment); 0: the truth again."""
        self._date = formatdate(time.time() + ahead, usegmt=True) if ahead else ""
        self._restart()

    def reset(self) -> None:
        """As it was at first: up, trusted, on time, and refusing nothing. Accounts and the log stay."""
        self.accept()
        self.bind(False)
        self.trust()
        if self._date:
            self.clock()
        self.start()

    def reject(
        self, kind: str = "rateLimited", detail: str = "", *, status: int = 429, resource: str = "newOrder"
    ) -> None:
        """Answer a resource of the directory (newOrder, newAccount, newNonce) with an ACME error, until `accept`."""
        again = "retry after 2026-12-24 09:13:16 UTC: see https://letsencrypt.org/docs/rate-limits/"
        limit = (
            f"too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s, {again}"
        )
        detail = detail or limit
        problem = {"type": f"urn:ietf:params:acme:error:{kind}", "detail": detail, "status": status}
        path = self._resources[resource].split("/", 3)[3]
        for file in (self._files / "refused").glob(f"*/{path}"):
            file.unlink()
        (self._files / "refused" / str(status) / path).write_text(json.dumps(problem))

    def accept(self) -> None:
        """End all refusals."""
        for file in (self._files / "refused").glob("*/*"):
            file.unlink()

    def requests(self) -> list[str]:
        """What clients asked, as "POST newOrder 201": resources by their names in the directory, else by path.

        A line is written just after its answer has gone out: wait for the last one.
        """
        log = self._files / "requests.log"
        names = {address.split("/", 3)[-1]: name for name, address in self._resources.items() if name != "meta"}
        rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [
            f"{row['request']['method']} {names.get(row['request']['uri'][1:], row['request']['uri'])} {row['status']}"
            for row in rows
        ]

    @property
    def orders(self) -> int:
        """How many orders clients tried to make: what a rate limit counts."""
        return sum(line.startswith("POST newOrder ") for line in self.requests())

    def log(self) -> str:
        """Pebble's own words: each validation, and why it failed."""
        return (self._files / "pebble.log").read_text()

    def close(self) -> None:
        """Wait for the end that the lab's end has brought."""
        for service in (self._front, self._pebble):
            if service is not None:
                service.close()
