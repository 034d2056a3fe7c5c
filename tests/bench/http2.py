"""A client's connection that speaks HTTP/2: many requests at once.

hyperframe and hpack, of which the library h2 is made, put into bytes and take apart. h2 itself, with all that it
checks, takes 200 µs of a client for a request and 18 for a token, more than the proxies that are to be measured; for
that reason, too, the frames of which there are many (heads and bodies) are told apart here.
"""

from __future__ import annotations

import ssl
import struct
import time
from collections.abc import Sequence

from hpack import Decoder, Encoder
from hyperframe.frame import Frame, GoAwayFrame, PingFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame

from tests.bench import load
from tests.bench.load import PATIENCE, Address, fields

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# What a client takes unread: of a stream as much as Go's, of a connection as much as Chrome's, about.
STREAM_WINDOW, CONNECTION_WINDOW, DEFAULT_WINDOW = 4 << 20, 16 << 20, 65535
# A frame's head: its length (one byte, two more), type, flags, stream.
HEAD = struct.Struct(">BHBBI")
DATA, HEADERS = 0, 1
END_STREAM, END_HEADERS, PADDED, PRIORITY = 1, 4, 8, 32
CANCEL = 8
# A block of fields that begins so says ":status: 200", whatever the tables hold.
STATUS_200 = 0x88


def frame(kind: int, flags: int, number: int, content: bytes) -> bytes:
    return HEAD.pack(len(content) >> 16, len(content) & 0xFFFF, kind, flags, number) + content


class Connection(load.Connection):
    """Bodies are short: what the server takes unread (64 KiB at the least) is never filled, and not watched."""

    protocol = "h2"
    streams = 100  # nginx allows 128, Caddy 250
    requests = 8  # as many clients do, each a few at once

    def __init__(self, address: Address, path: str, body: bytes = b"", timeout: float = PATIENCE) -> None:
        until = time.monotonic() + timeout
        super().__init__(address, path, body, timeout)
        self._fields = [(":method", "POST" if body else "GET"), (":scheme", "https"), (":authority", address.host)]
        self._fields += [(":path", path), *((name.lower(), value) for name, value in fields(body))]
        self._body = body
        self._encoder, self._decoder = Encoder(), Decoder()
        self._block = b""
        self._blocks: list[bytes] = []  # that were not decoded
        self._decoded: dict[bytes, bytes] = {}  # the last that was
        self._answers: dict[int, load.Answer] = {}
        self._number = 1  # of the next stream
        self._received = b""
        self._taken: dict[int, int] = {}  # bytes of a stream, or with 0 of all, that were read and not given back
        self._allowed = 0
        settings = {SettingsFrame.ENABLE_PUSH: 0, SettingsFrame.INITIAL_WINDOW_SIZE: STREAM_WINDOW}
        self._unsent = PREFACE + SettingsFrame(0, settings=settings).serialize()
        self._unsent += WindowUpdateFrame(0, window_increment=CONNECTION_WINDOW - DEFAULT_WINDOW).serialize()
        try:
            self._agree(until)
        except BaseException:
            self.close()
            raise

    def _agree(self, until: float) -> None:
        chosen = self.socket.selected_alpn_protocol() if isinstance(self.socket, ssl.SSLSocket) else None
        if chosen != self.protocol:
            raise ConnectionError("the server does not speak HTTP/2")
        self.flush()
        while not self._allowed:
            self.wait(until)
        if self._allowed < self.streams:
            raise ConnectionError(f"the server allows {self._allowed} streams, not {self.streams}")

    def __len__(self) -> int:
        return len(self._answers)

    def ask(self) -> load.Answer:
        number, self._number = self._number, self._number + 2
        # Once the server has all fields in its table, the same bytes go on meaning them.
        if number <= 3:
            self._block = self._encoder.encode(self._fields)
        self._unsent += frame(HEADERS, END_HEADERS if self._body else END_HEADERS | END_STREAM, number, self._block)
        if self._body:
            self._unsent += frame(DATA, END_STREAM, number, self._body)
        answer = self._answers[number] = load.Answer()
        return answer

    def flush(self) -> None:
        """What does not fit into the socket now leaves with the next."""
        while self._unsent:
            try:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
            except (ssl.SSLWantWriteError, BlockingIOError):
                return

    def give_up(self, answer: load.Answer) -> None:
        (number,) = (number for number, one in self._answers.items() if one is answer)
        del self._answers[number]
        self._unsent += RstStreamFrame(number, error_code=CANCEL).serialize()
        self.flush()

    def _feed(self, data: bytes) -> Sequence[tuple[load.Answer, list[int]]]:
        received = self._received + data
        found: dict[load.Answer, list[int]] = {}
        at = 0
        while at + HEAD.size <= len(received):
            high, low, kind, flags, number = HEAD.unpack_from(received, at)
            begin = at + HEAD.size
            end = begin + (high << 16 | low)
            if end > len(received):
                break
            stamps: list[int] = []
            answer = self._answers.get(number)
            if kind == DATA:
                stamps = self._take(answer, number, received[begin:end], flags)
            elif kind == HEADERS:
                self._begin(answer, received[begin:end], flags)
            else:
                self._obey(received[at:begin], received[begin:end])
            if answer is not None:
                found.setdefault(answer, []).extend(stamps)
                if kind <= HEADERS and flags & END_STREAM:
                    self._end(number)
            at = end
        self._received = received[at:]
        self.flush()
        return list(found.items())

    def _take(self, answer: load.Answer | None, number: int, data: bytes, flags: int) -> list[int]:
        """A piece of a body."""
        if flags & PADDED:
            raise ConnectionError("padding is not understood")
        self._give_back(0, len(data), CONNECTION_WINDOW)
        if answer is None:
            return []
        if not flags & END_STREAM:
            self._give_back(number, len(data), STREAM_WINDOW)
        return answer.tokens.feed(data)

    def _begin(self, answer: load.Answer | None, block: bytes, flags: int) -> None:
        """An answer's head, or its trailers.

        After a 200 another says what the first one did, for all requests are the same: its fields are decoded only when
        a head comes that needs the table that they make.
        """
        if flags & (PADDED | PRIORITY) or not flags & END_HEADERS:
            raise ConnectionError("a head that is padded, weighed or continued is not understood")
        self._blocks.append(block)
        status: bytes | None = b"200"
        if block[0] != STATUS_200 or self._decoded.get(b":status") != b"200":
            for one in self._blocks:
                self._decoded = dict(self._decoder.decode(one, raw=True))
            self._blocks.clear()
            status = self._decoded.get(b":status")
        if answer is not None and status is not None:
            answer.status = int(status)
            if self._decoded.get(b"content-encoding") == b"gzip":
                answer.tokens.unpack()

    def _give_back(self, number: int, size: int, window: int) -> None:
        """Room for what was read, before half of it is taken: the server never has to wait."""
        taken = self._taken.get(number, 0) + size
        if taken >= window // 2:
            self._unsent += WindowUpdateFrame(number, window_increment=taken).serialize()
            taken = 0
        self._taken[number] = taken

    def _end(self, number: int) -> None:
        self._answers.pop(number).done = True
        self._taken.pop(number, None)

    def _obey(self, head: bytes, content: bytes) -> None:
        """Any other frame."""
        one, _ = Frame.parse_frame_header(memoryview(head))
        one.parse_body(memoryview(content))
        match one:
            case RstStreamFrame() if one.stream_id in self._answers:
                self._end(one.stream_id)
            case SettingsFrame() if "ACK" not in one.flags:
                self._allowed = one.settings.get(SettingsFrame.MAX_CONCURRENT_STREAMS, self.streams)
                if SettingsFrame.HEADER_TABLE_SIZE in one.settings:
                    self._encoder.header_table_size = one.settings[SettingsFrame.HEADER_TABLE_SIZE]
                self._unsent += SettingsFrame(0, flags=["ACK"]).serialize()
            case PingFrame() if "ACK" not in one.flags:
                self._unsent += PingFrame(0, one.opaque_data, flags=["ACK"]).serialize()
            case GoAwayFrame():
                raise ConnectionError(f"the server goes away (error {one.error_code})")
