"""What others answer about the host name behind an alias: its records, written anew.

A reply of somebody else is compressed against itself, so its names are read in full before they
stand in one of ours.  Only what leads to an address is taken: A, AAAA and CNAME.  A pointer has to
lead back (RFC 1035, section 4.1.4), so that reading ends.
"""

import struct
from typing import Final

from waypost.servers.dns.message import (
    AAAA,
    CNAME,
    HEADER,
    IN,
    NAME_BYTES_MAX,
    RD,
    A,
    write_record,
)

_RECORD_TAIL: Final = struct.Struct("!HHIH")
_RECORDS_MAX: Final = 64
_ADDRESS_BYTES: Final = {A: 4, AAAA: 16}


def write_question(name: bytes, kind: int) -> bytes:
    """A query for a name as it is written, without an id."""
    return HEADER.pack(0, RD, 1, 0, 0, 0) + name + struct.pack("!HH", kind, IN)


def read_records(reply: bytes, end: int) -> list[bytes]:
    """The records of a reply that lead to an address; ``end`` is where its question ends.

    None at all if it is not as a reply should be.
    """
    count = HEADER.unpack_from(reply)[3]
    found: list[bytes] = []
    at = end
    for _ in range(min(count, _RECORDS_MAX)):
        owner = _read_name(reply, at)
        if owner is None or owner[1] + _RECORD_TAIL.size > len(reply):
            return []
        kind, rr_class, ttl_s, length = _RECORD_TAIL.unpack_from(reply, owner[1])
        begin = owner[1] + _RECORD_TAIL.size
        at = begin + length
        if at > len(reply):
            return []
        data = reply[begin:at]
        if kind == CNAME:
            target = _read_name(reply, begin)
            if target is None:
                return []
            data = target[0]
        if rr_class == IN and (kind == CNAME or _ADDRESS_BYTES.get(kind) == length):
            found.append(write_record(owner[0], kind, ttl_s, data))
    return found


def _read_name(reply: bytes, at: int) -> tuple[bytes, int] | None:
    """A name in full, and where what follows it begins; None if it is none."""
    name = bytearray()
    after = 0
    least = at
    while at < len(reply) and len(name) < NAME_BYTES_MAX:
        length = reply[at]
        if length == 0:
            return bytes(name) + b"\0", after or at + 1
        if length >= 0xC0:
            if at + 2 > len(reply):
                return None
            after = after or at + 2
            at = (length & 0x3F) << 8 | reply[at + 1]
            if at >= least:
                return None
            least = at
        elif length > 63 or at + 1 + length > len(reply):
            return None
        else:
            name += reply[at : at + 1 + length]
            at += 1 + length
    return None
