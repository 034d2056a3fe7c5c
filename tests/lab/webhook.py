"""A web address that takes notices, run as a program: CHAIN KEY ADDRESS PORT FILE   (each body is a line of FILE)"""

import ssl
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

CHAIN, KEY, ADDRESS, PORT, FILE = sys.argv[1:]


class Handler(BaseHTTPRequestHandler):
    """One notice."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with Path(FILE).open("ab") as file:
            file.write(self.path.encode() + b" " + body)
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


server = HTTPServer((ADDRESS, int(PORT)), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CHAIN, KEY)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
