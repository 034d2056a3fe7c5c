"""A host that is to have an endpoint: its answers in each mode, its name in DNS, what another machine meets there."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.lab.acme import Acme
from tests.lab.certificates import Leaf
from tests.lab.lab import Lab
from tests.lab.operator import Operator
from tests.lab.server import Server
from tests.lab.space import Deadline
from tests.lab.spec import CANARY

DOMAIN = "llm.example.test"
CA_FILE = "/etc/ssl/lab-acme.pem"
CHAIN, KEY = "/etc/ssl/llm/chain.pem", "/etc/ssl/llm/key.pem"


@dataclass
class Site:
    """A host, its operator, and the authority that is to issue for it."""

    lab: Lab
    acme: Acme
    operator: Operator

    @property
    def server(self) -> Server:
        return self.operator.server

    def answer_acme(self, **tls: Any) -> None:
        """The lab's own CA; these keys of tls are answered otherwise, or (None) not at all."""
        self.server.put(CA_FILE, self.acme.ca_file)
        asked: dict[str, Any] = {
            "mode": "acme",
            "domain": DOMAIN,
            "email": "ops@example.test",
            "acme_directory": self.acme.directory,
            "acme_ca_file": CA_FILE,
            "public_addresses": [self.server.address],
            **tls,
        }
        self.operator.answer(tls={key: value for key, value in asked.items() if value is not None})

    def answer_custom(self, chain: bytes, key: bytes) -> None:
        self.server.run(["mkdir", "-p", "/etc/ssl/llm"])
        self.server.put(CHAIN, chain)
        self.server.put(KEY, key, 0o600)
        self.operator.answer(tls={"mode": "custom", "domain": DOMAIN, "certificate": CHAIN, "private_key": KEY})

    def name(self, *records: str) -> None:
        self.lab.gate.names.set(DOMAIN, *(records or (f"A {self.server.address}",)))

    def trust(self, root: bytes) -> None:
        """The host itself trusts this CA, as a company's servers trust theirs."""
        self.server.put("/usr/local/share/ca-certificates/company.crt", root)
        self.server.run(["update-ca-certificates"])

    def answer_mode(self, mode: str) -> None:
        """All that a mode needs of the world around the host."""
        self.name()
        if mode == "acme":
            self.answer_acme()
        elif mode == "custom":
            leaf = self.lab.certificates.issue(DOMAIN)
            self.trust(self.lab.certificates.root)
            self.answer_custom(leaf.chain, leaf.key)

    def root(self, mode: str) -> bytes:
        """What a client has to trust for the endpoint of this mode."""
        if mode == "internal":
            return self.server.get("/etc/vllm-https-setup/root.crt")
        return self.acme.issuing_root if mode == "acme" else self.lab.certificates.root

    def serial(self) -> int:
        """The serial number of the certificate that the server shows."""
        argv = ["openssl", "s_client", "-connect", f"{self.server.address}:443", "-servername", DOMAIN]
        shown = self.server.run(argv, check=False, stdin=b"").stdout
        certificate = re.search(r"-----BEGIN.*?END CERTIFICATE-----", shown, re.S)
        assert certificate is not None, shown
        said = self.server.run(["openssl", "x509", "-noout", "-serial"], stdin=certificate.group().encode()).stdout
        return int(said.partition("=")[2], 16)

    def wait_until_served(self, leaf: Leaf) -> None:
        until = Deadline("the new certificate", 40)
        while self.serial() != leaf.certificate.serial_number:
            until.tick(0.3)

    def curl(self, url: str, *words: str, address: str = "") -> str:
        """Status and redirect that a client elsewhere gets; "000" where none, or one it does not trust, answers."""
        argv = ["curl", "-s", "-o", "/dev/null", "-m", "10", "-w", "%{http_code} %{redirect_url}", *words, url]
        to = ["--connect-to", f"{DOMAIN}::{address or self.server.address}:"]
        return self.lab.outside.run([*argv, *to], check=False).stdout.strip()

    def seen_from_outside(self, mode: str, address: str = "") -> dict[str, str]:
        """What another machine meets: the ports, and what a client gets that trusts the mode's root alone."""
        address = address or self.server.address
        place = self.lab.outside.key.with_name("root-of-a-client.pem")
        place.write_bytes(self.root(mode))
        name = address if mode == "internal" else DOMAIN
        key = ("-H", f"Authorization: Bearer {CANARY}")

        def get(url: str, *words: str) -> str:
            return self.curl(url, "--cacert", str(place), *words, address=address)

        ports = {str(port): self.lab.outside.tcp(address, port, 0.5) for port in (22, 80, 443, 8000)}
        return ports | {
            "models": get(f"https://{name}/v1/models"),
            "models with the key": get(f"https://{name}/v1/models", *key),
            "metrics": get(f"https://{name}/metrics"),
            "vLLM itself": get(f"http://{name}:8000/metrics", "-m", "1"),
            "over http": get(f"http://{name}/v1/models", "-m", "1"),
            "key over http": get(f"http://{name}/v1/models", "-m", "1", *key),
        }


def proof(mode: str) -> Mapping[str, str]:
    """What `seen_from_outside` has to say of a finished endpoint."""
    internal = mode == "internal"
    return {
        "22": "open",
        "80": "filtered" if internal else "open",
        "443": "open",
        "8000": "filtered",
        "models": "401",
        "models with the key": "200",
        "metrics": "404",
        "vLLM itself": "000",
        "over http": "000" if internal else f"308 https://{DOMAIN}/v1/models",
        "key over http": "000" if internal else "403",
    }
