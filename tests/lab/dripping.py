"""A web server of the lab's internet that answers slowly, or breaks off. A program of its own, with no imports of ours.

usage: dripping.py HOW ROOT CERTIFICATE KEY ADDRESS. HOW is a JSON file, read at each request: of a path that has
`within` in it `bytes_per_second` come a second, and none after `share` of the file: then the connection is closed.
"""

import json
import re
import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TICK_S = 0.1


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        root = Path(sys.argv[2]) / str(self.headers["Host"])
        file = root / self.path.lstrip("/")
        if ".." in file.parts or not file.is_file():
            self.send_error(404)
            return
        how = json.loads(Path(sys.argv[1]).read_text())
        whole = file.read_bytes()
        # apt goes on from where it was cut off.
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        begin = min(int(wanted[1]), len(whole)) if wanted else 0
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {begin}-{len(whole) - 1}/{len(whole)}")
        self.send_header("Content-Length", str(len(whole) - begin))
        self.end_headers()
        if how["within"] not in self.path:
            self.wfile.write(whole[begin:])
            return
        end = int(len(whole) * how["share"])
        piece = max(int(how["bytes_per_second"] * TICK_S), 1)
        for at in range(begin, end, piece):
            self.wfile.write(whole[at : min(at + piece, end)])
            self.wfile.flush()
            time.sleep(TICK_S)
        self.close_connection = end < len(whole)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever hangs up in the middle is no matter."""


def main() -> None:
    _, _, _, certificate, key, address = sys.argv
    server = Server((address, 443), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    # Each connection's handshake in its own thread.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


if __name__ == "__main__":
    main()
