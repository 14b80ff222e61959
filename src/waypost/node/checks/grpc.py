"""One call of gRPC's health service, as bytes: ``grpc.health.v1.Health/Check``.

One unary call needs so little of HTTP/2 (RFC 9113) that it is written down here: a request that is
always of the same shape, and of the answer the one message that says how the service is.  With
that, checks of gRPC need no extra to be installed, and 10,000 of them no 10,000 channels.  What is
not read is HPACK: an answer without a message is a failure, whatever its trailers say.

Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md, PROTOCOL-HTTP2.md there.
"""

from typing import Final

from waypost.checks import Check, CheckStatus
from waypost.node.checks.found import Found

ALPN: Final = "h2"
FRAME_BYTES_MAX: Final = 64 * 1024
FRAMES_MAX: Final = 64

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_END_STREAM, _END_HEADERS, _PADDED = 1, 4, 8
_STREAM: Final = 1
_SERVING: Final = 1
_SAID: Final = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


def request_of(check: Check) -> bytes:
    """The preface, our settings and the call, encoded."""
    authority, _, service = check.target.partition("/")
    headers = b"".join(
        (
            b"\x83",  # :method POST
            b"\x87" if check.tls else b"\x86",  # :scheme
            b"\x04" + _text("/grpc.health.v1.Health/Check"),  # :path
            b"\x01" + _text(authority),  # :authority
            b"\x0f\x10" + _text("application/grpc"),  # content-type
            b"\x00" + _text("te") + _text("trailers"),
        )
    )
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    data = b"\x00" + len(message).to_bytes(4, "big") + message
    no_push_no_table = b"\x00\x02\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00"
    return b"".join(
        (
            _PREFACE,
            _frame(_SETTINGS, 0, 0, no_push_no_table),
            _frame(_HEADERS, _END_HEADERS, _STREAM, headers),
            _frame(_DATA, _END_STREAM, _STREAM, data),
        )
    )


class Answer:
    """Reads one answer."""

    __slots__ = ("_buffer", "_check", "_frames", "_message")

    def __init__(self, check: Check) -> None:
        self._check = check
        self._buffer = b""
        self._frames = 0
        self._message = b""

    def feed(self, data: bytes) -> Found | None:
        """Take what came; tell what was found once that is known."""
        self._buffer += data
        if not self._frames and len(self._buffer) >= 9 and self._buffer[3] != _SETTINGS:
            return self._wrong("the answer is not HTTP/2")
        while len(self._buffer) >= 9:
            size = int.from_bytes(self._buffer[:3], "big")
            if size > FRAME_BYTES_MAX or self._frames >= FRAMES_MAX:
                return self._wrong("it sends more than an answer may have")
            if len(self._buffer) < 9 + size:
                return None
            kind, flags = self._buffer[3], self._buffer[4]
            stream = int.from_bytes(self._buffer[5:9], "big") & 0x7FFF_FFFF
            payload = self._buffer[9 : 9 + size]
            self._buffer = self._buffer[9 + size :]
            self._frames += 1
            found = self._take(kind, flags, stream, payload)
            if found is not None:
                return found
        return None

    def end(self) -> Found:
        """Nothing more comes."""
        return self._wrong("the connection was closed without an answer")

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> Found | None:
        if kind == _GOAWAY:
            return self._wrong(f"refused: GOAWAY, error {int.from_bytes(payload[4:8], 'big')}")
        if stream != _STREAM:
            return None
        if kind == _RST_STREAM:
            return self._wrong(f"refused: RST_STREAM, error {int.from_bytes(payload[:4], 'big')}")
        if kind == _DATA:
            if flags & _PADDED and payload:
                payload = payload[1 : len(payload) - payload[0]]
            self._message += payload
            if len(self._message) >= 5:
                size = int.from_bytes(self._message[1:5], "big")
                if self._message[0] or size > FRAME_BYTES_MAX:
                    return self._wrong("its message is compressed, or too long")
                if len(self._message) >= 5 + size:
                    return self._read(self._message[5 : 5 + size])
        if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
            return self._wrong(
                "refused: the server has no health service, or does not know that name"
            )
        return None

    def _read(self, message: bytes) -> Found:
        number = message[1] if len(message) >= 2 and message[0] == 0x08 else 0
        said = _SAID.get(number, str(number))
        status: CheckStatus = "passing" if number == _SERVING else "critical"
        return Found(status, f"gRPC check {self._check.target}: {said}")

    def _wrong(self, why: str) -> Found:
        return Found("critical", f"gRPC check {self._check.target}: {why}")


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return head + payload


def _text(text: str) -> bytes:
    """A string literal without Huffman coding (RFC 7541, 5.2)."""
    raw = text.encode()
    if len(raw) < 127:
        return bytes((len(raw),)) + raw
    return b"\x7f" + _varint(len(raw) - 127) + raw


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first: HPACK's and protobuf's alike."""
    found = b""
    while number > 0x7F:
        found += bytes((number & 0x7F | 0x80,))
        number >>= 7
    return found + bytes((number,))
