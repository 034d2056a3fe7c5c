"""Requests over HTTP and HTTPS, with address, SNI and Host set apart as `curl --connect-to` does."""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import socket
import ssl
import threading
import time

from .server import CONNECTION_REFUSED, Request, Response

MAX_BODY = 8 * 1024 * 1024


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """A client's context: `ca_file` alone is trusted; "" is the system's store; None checks nothing."""
    return _context(ca_file, os.stat(ca_file).st_mtime_ns if ca_file else 0)


@functools.lru_cache
def _context(ca_file: str | None, written: int) -> ssl.SSLContext:
    """Made once for each state of the file: to read the system's store takes as long as five requests."""
    if ca_file is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context = ssl.create_default_context(cafile=ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _connect(request: Request) -> socket.socket:
    if request.unix:
        connected = socket.socket(socket.AF_UNIX)
        connected.settimeout(request.timeout_s)
        connected.connect(request.unix)
        return connected
    connected = socket.create_connection((request.address, request.port), timeout=request.timeout_s)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not request.tls:
        return connected
    try:
        return tls_context(request.ca_file).wrap_socket(connected, server_hostname=request.server_name)
    except BaseException:
        connected.close()
        raise


def exchange(request: Request) -> Response:
    """The answer, redirects not followed; `status=0` with the error's words where there was none."""
    began = time.monotonic()

    def passed() -> float:
        return (time.monotonic() - began) * 1000

    try:
        connected = _connect(request)
    except (OSError, ssl.SSLError, ValueError) as error:
        return Response(0, error=_words(error), ms=passed())
    version, certificate = "", b""
    if isinstance(connected, ssl.SSLSocket):
        version, certificate = connected.version() or "", connected.getpeercert(binary_form=True) or b""
    connection = http.client.HTTPConnection(request.address, request.port, timeout=request.timeout_s)
    connection.sock = connected
    # The socket's own time limit is one of each piece: who sends a byte now and then would keep us for ever.
    late = threading.Event()
    limit = threading.Timer(max(request.timeout_s - passed() / 1000, 0), _end, (connected, late))
    limit.daemon = True
    limit.start()
    headers = {"Host": request.host or f"{request.address}:{request.port}", "Connection": "close"}
    if request.bearer is not None:
        headers["Authorization"] = f"Bearer {request.bearer.reveal()}"
    if request.body:
        headers["Content-Type"] = request.content_type
    headers.update(request.headers)
    try:
        connection.request(request.method, request.path, body=request.body or None, headers=headers)
        answer = connection.getresponse()
        pieces: list[tuple[float, bytes]] = []
        size = 0
        while (piece := answer.read1(65536)) and size < MAX_BODY:
            pieces.append((passed(), piece))
            size += len(piece)
        if late.is_set():
            return Response(0, error="no answer in time", ms=passed(), tls_version=version, certificate=certificate)
        if answer.length and size < MAX_BODY:
            ended = "the answer ended before all of it had come"
            return Response(0, error=ended, ms=passed(), tls_version=version, certificate=certificate)
        body = b"".join(piece for _, piece in pieces)
        headers_back = tuple(answer.getheaders())
        return Response(answer.status, body, headers_back, "", passed(), version, tuple(pieces), certificate)
    except (OSError, http.client.HTTPException) as error:
        said = "no answer in time" if late.is_set() else _words(error)
        return Response(0, error=said, ms=passed(), tls_version=version, certificate=certificate)
    except ValueError:
        return Response(0, error="a header or path has signs that none can have (a line break, say)", ms=passed())
    finally:
        limit.cancel()
        connection.close()


def _end(connected: socket.socket, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


def _words(error: Exception) -> str:
    """An error as one short sentence, without Python's own decoration."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'handshake failed').lower().replace('_', ' ')}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return CONNECTION_REFUSED
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def fetch(url: str, timeout_s: float, ca_file: str | None = None) -> Response:
    """A file of the internet, redirects followed; checked with the system's store, or with `ca_file` alone."""
    import urllib.error
    import urllib.request

    began = time.monotonic()
    try:
        context = tls_context(ca_file or "")
        with urllib.request.urlopen(url, timeout=timeout_s, context=context) as answer:
            body, answered = b"", time.monotonic()
            # Connecting has its own limits: where one of a name's addresses stays silent, the next is tried.
            while (piece := answer.read1(65536)) and len(body) < MAX_BODY:
                body += piece
                if time.monotonic() - answered > timeout_s:
                    return Response(0, error=f"not all of it came within {timeout_s:.0f} s")
            if answer.length and len(body) < MAX_BODY:
                return Response(0, error=f"it ended after {len(body)} bytes, with {answer.length} to come")
            headers = tuple(answer.headers.items())
            return Response(answer.status, body, headers, ms=(time.monotonic() - began) * 1000)
    except urllib.error.HTTPError as error:
        return Response(error.code, error=f"{error.code} {error.reason}")
    except urllib.error.URLError as error:
        reason = error.reason
        return Response(0, error=_words(reason) if isinstance(reason, Exception) else str(reason))
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Response(0, error=_words(error))
