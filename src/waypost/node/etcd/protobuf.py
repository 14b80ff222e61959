"""The wire format of Protocol Buffers, as much of it as etcd's messages need.

A message is fields in any order: a varint ``number << 3 | type``, then a varint (type 0) or a
length and so many bytes (type 2).  Fields that hold their default are left out, and fields that a
reader does not know are skipped.

Source: protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator

from waypost.errors import ProtocolViolation

_VARINT = 0
_FIXED64 = 1
_BYTES = 2
_FIXED32 = 5


def varint(value: int) -> bytes:
    """Encode an integer; a negative one as its 64-bit two's complement."""
    value &= (1 << 64) - 1
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """Encode an integer field; nothing for zero."""
    return varint(field << 3 | _VARINT) + varint(value) if value else b""


def chosen(field: int, value: int) -> bytes:
    """Encode an integer field of a ``oneof``: also for zero, since it says which is meant."""
    return varint(field << 3 | _VARINT) + varint(value)


def octets(field: int, value: bytes) -> bytes:
    """Encode a bytes or string field; nothing when empty."""
    return message(field, value) if value else b""


def message(field: int, encoded: bytes) -> bytes:
    """Encode an embedded message, an empty one too."""
    return b"".join((varint(field << 3 | _BYTES), varint(len(encoded)), encoded))


def fields(encoded: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Go through a message: field number, and its integer or its bytes (the other one is empty)."""
    at = 0
    end = len(encoded)
    while at < end:
        key, at = _varint_at(encoded, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint_at(encoded, at)
            yield key >> 3, value, b""
        elif kind == _BYTES:
            size, at = _varint_at(encoded, at)
            if at + size > end:
                raise ProtocolViolation("etcd: a message ends within a field: is this an etcd?")
            yield key >> 3, 0, encoded[at : at + size]
            at += size
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ProtocolViolation(f"etcd: a field of unknown type {kind}: is this an etcd?")


def _varint_at(encoded: bytes, at: int) -> tuple[int, int]:
    value = 0
    shift = 0
    while True:
        if at >= len(encoded) or shift > 63:
            raise ProtocolViolation("etcd: a message ends within a number: is this an etcd?")
        byte = encoded[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
