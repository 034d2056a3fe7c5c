"""A cloud's metadata service, run as a program: FILE   (at 169.254.169.254, port 80)

FILE is JSON, read again at each request: {"provider": …, "public_ipv4": … or null}. Each provider wants what the real
one wants (a token, a header) and knows the paths of its instance's public address; all else is 404. The provider
"hangs" takes connections and never answers.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

ADDRESS = "169.254.169.254"
TOKEN = "AQAAAlabtokenofthismetadataservice=="
AZURE = "/metadata/instance/network/interface/0/ipv4/ipAddress/0/publicIpAddress"
PATHS = {
    "aws": "/latest/meta-data/public-ipv4",
    "gcp": "/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip",
    "azure": AZURE,
    "openstack": "/latest/meta-data/public-ipv4",
    "digitalocean": "/metadata/v1/interfaces/public/0/ipv4/address",
    "hetzner": "/hetzner/v1/metadata/public-ipv4",
}
# The header that a provider wants, and what it answers without it.
HEADERS = {
    "aws": ("X-aws-ec2-metadata-token", TOKEN, 401),
    "gcp": ("Metadata-Flavor", "Google", 403),
    "azure": ("Metadata", "true", 400),
}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """The public address, or the provider's own kind of refusal."""
        told = self.told()
        provider, address = told["provider"], told["public_ipv4"]
        name, value, refusal = HEADERS.get(provider, ("", "", 0))
        if name and self.headers.get(name, "").lower() != value.lower():
            return self.reply(refusal, "")
        path = urlsplit(self.path)
        if provider == "azure" and "api-version=" not in path.query:
            return self.reply(400, '{ "error": "Bad request. api-version was not specified in the request" }')
        if path.path != PATHS[provider]:
            return self.reply(404, "")
        if provider == "azure":  # answers 200 and nothing where there is no public address
            return self.reply(200, address or "")
        return self.reply(200, address) if address else self.reply(404, "")

    def do_PUT(self) -> None:
        """AWS's session token."""
        if self.told()["provider"] != "aws":
            return self.reply(404, "")
        if "X-aws-ec2-metadata-token-ttl-seconds" not in self.headers or self.path != "/latest/api/token":
            return self.reply(400, "")
        return self.reply(200, TOKEN)

    def told(self) -> dict[str, str]:
        """What FILE says now."""
        told: dict[str, str] = json.loads(Path(sys.argv[1]).read_text())
        while told["provider"] == "hangs":
            time.sleep(0.2)
            told = json.loads(Path(sys.argv[1]).read_text())
        return told

    def reply(self, code: int, text: str) -> None:
        """A whole response."""
        self.send_response(code)
        if self.told()["provider"] == "gcp":
            self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


if __name__ == "__main__":
    ThreadingHTTPServer((ADDRESS, 80), Handler).serve_forever()
