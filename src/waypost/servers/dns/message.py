"""DNS messages: questions read, and records written so that they may stand anywhere in a reply.

``read_query`` trusts nothing: whatever comes in is a question, a code to refuse it with, or not
worth an answer.  What is written compresses names only against the question, which always begins
at the same place; so a record is the same bytes wherever it stands, and an answer is reordered by
joining its records anew.

Knows no registry and no socket.  Source: RFC 1035 sections 3 and 4, RFC 3596 section 2.2, RFC 6891
section 6, RFC 9619 (one question in a query), RFC 2782 (the target of SRV is not compressed).
"""

import struct
from typing import Final

import msgspec

A: Final = 1
NS: Final = 2
CNAME: Final = 5
SOA: Final = 6
PTR: Final = 12
TXT: Final = 16
AAAA: Final = 28
SRV: Final = 33
OPT: Final = 41
IXFR: Final = 251
AXFR: Final = 252
ANY: Final = 255

IN: Final = 1
CLASS_ANY: Final = 255

NOERROR: Final = 0
FORMERR: Final = 1
SERVFAIL: Final = 2
NXDOMAIN: Final = 3
NOTIMP: Final = 4
REFUSED: Final = 5
BADVERS: Final = 16

HEADER: Final = struct.Struct("!HHHHHH")
_TYPE_CLASS: Final = struct.Struct("!HH")
_RECORD_TAIL: Final = struct.Struct("!HHIH")
QR: Final = 0x8000
AA: Final = 0x0400
TC: Final = 0x0200
RD: Final = 0x0100
RA: Final = 0x0080
CD: Final = 0x0010
_OPCODE: Final = 0x7800

QUESTION_AT: Final = 12
TO_QUESTION: Final = b"\xc0\x0c"
"""A name that is the one in the question."""
NAME_BYTES_MAX: Final = 255
LABEL_BYTES_MAX: Final = 63
PAYLOAD_MIN: Final = 512
"""What a datagram may hold for a client that says nothing of it."""
PAYLOAD_MAX: Final = 8192
"""What it may hold at most, whatever the client says."""
QUERY_BYTES_MAX: Final = 4096
"""No query by UDP is that long."""
_EXTRA_RECORDS_MAX: Final = 8
"""Nobody sends more beside a question: an OPT, and perhaps a signature."""

Labels = tuple[bytes, ...]


class Question(msgspec.Struct, frozen=True, gc=False):
    """What a query asks, and how its answer has to look."""

    flags: int
    labels: Labels
    """In lower case: the reply copies the question itself, so the case comes back (RFC 4343)."""
    kind: int
    rr_class: int
    end: int
    """Where what follows the question begins."""
    payload: int
    """The most that its sender takes by UDP."""
    has_edns: bool

    @property
    def wants_recursion(self) -> bool:
        """Whether names that are not ours might be asked of others."""
        return bool(self.flags & RD)

    def offset_of(self, suffix: int) -> int:
        """Tell where in a message the last ``suffix`` labels of the question stand."""
        return QUESTION_AT + sum(
            len(label) + 1 for label in self.labels[: len(self.labels) - suffix]
        )


class Bad(msgspec.Struct, frozen=True, gc=False):
    """A query that is answered by a code alone."""

    code: int
    end: int = 0
    """Where the question ends that is to be sent back; 0 sends none."""
    has_edns: bool = False


def read_query(data: bytes) -> Question | Bad | None:
    """Read a query; None for what deserves no answer: a reply, or less than a header."""
    if len(data) < HEADER.size:
        return None
    _, flags, questions, answers, authorities, extras = HEADER.unpack_from(data)
    if flags & QR:
        return None
    if flags & _OPCODE:
        return Bad(NOTIMP)
    if questions != 1 or answers:
        return Bad(FORMERR)
    found = _read_name(data)
    if found is None or found[1] + _TYPE_CLASS.size > len(data):
        return Bad(FORMERR)
    labels, at = found
    kind, rr_class = _TYPE_CLASS.unpack_from(data, at)
    end = at + _TYPE_CLASS.size
    if kind == IXFR:  # it has a record in its authority section, which nobody here reads
        return Bad(NOTIMP, end)
    if kind == OPT or authorities or extras > _EXTRA_RECORDS_MAX:
        return Bad(FORMERR, end)
    edns = _read_extras(data, end, extras)
    if isinstance(edns, Bad):
        return edns
    if kind == AXFR:
        return Bad(NOTIMP, end, has_edns=edns is not None)
    payload = PAYLOAD_MIN if edns is None else min(max(edns, PAYLOAD_MIN), PAYLOAD_MAX)
    return Question(flags, labels, kind, rr_class, end, payload, edns is not None)


def _read_name(data: bytes) -> tuple[Labels, int] | None:
    """Read the name of the question, and tell where it ends; None if it is none."""
    labels: list[bytes] = []
    at = QUESTION_AT
    while at < len(data):
        length = data[at]
        at += 1
        if length == 0:
            return tuple(labels), at
        if length > LABEL_BYTES_MAX or at + length > len(data):
            return None  # a pointer has nothing before it to point to
        labels.append(data[at : at + length].lower())
        at += length
        if at - QUESTION_AT >= NAME_BYTES_MAX:
            return None
    return None


def _read_extras(data: bytes, end: int, count: int) -> int | Bad | None:
    """Look for an OPT among the additional records: its payload size, or None without one."""
    at = end
    edns: int | None = None
    for _ in range(count):
        start = at
        while at < len(data) and 0 < data[at] <= LABEL_BYTES_MAX:
            at += data[at] + 1
        if at < len(data) and data[at] >= 0xC0:
            at += 1
        at += 1
        if at + _RECORD_TAIL.size > len(data):
            return Bad(FORMERR, end)
        kind, size, ttl, length = _RECORD_TAIL.unpack_from(data, at)
        at += _RECORD_TAIL.size + length
        if kind == OPT:
            if data[start] or edns is not None:  # one, and at the root
                return Bad(FORMERR, end)
            if ttl >> 16 & 0xFF:
                return Bad(BADVERS, end, has_edns=True)
            edns = size
    return edns if at == len(data) else Bad(FORMERR, end)


def write_name(labels: Labels) -> bytes:
    """A name in full."""
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\x00"


def write_record(owner: bytes, kind: int, ttl_s: int, data: bytes) -> bytes:
    """One record; ``owner`` is a name as it is written."""
    return owner + _RECORD_TAIL.pack(kind, IN, ttl_s, len(data)) + data


def write_soa(
    owner: bytes,
    ttl_s: int,
    primary: bytes,
    mailbox: bytes,
    numbers: tuple[int, int, int, int, int],
) -> bytes:
    """The start of authority: serial, refresh, retry, expire and minimum are the numbers."""
    return write_record(owner, SOA, ttl_s, primary + mailbox + struct.pack("!IIIII", *numbers))


def write_srv(
    owner: bytes, ttl_s: int, priority: int, weight: int, port: int, target: bytes
) -> bytes:
    """Where a service is."""
    return write_record(owner, SRV, ttl_s, struct.pack("!HHH", priority, weight, port) + target)


def write_texts(text: bytes) -> bytes:
    """The data of a TXT record: a text, in strings of 255 bytes at most."""
    parts = [text[at : at + 255] for at in range(0, len(text), 255)]
    return b"".join(bytes((len(part),)) + part for part in parts)


def write_opt(code: int) -> bytes:
    """What an answer says of EDNS: how much we take, and the upper bits of the code."""
    return b"\x00" + _RECORD_TAIL.pack(OPT, QUERY_BYTES_MAX, code >> 4 << 24, 0)


def write_bad(data: bytes, bad: Bad) -> bytes:
    """The reply to a query that is answered by a code alone."""
    flags = HEADER.unpack_from(data)[1]
    flags = QR | flags & (_OPCODE | RD | CD) | bad.code & 0xF
    opt = write_opt(bad.code) if bad.has_edns else b""
    counts = struct.pack("!HHHHH", flags, bool(bad.end), 0, 0, bool(opt))
    question = data[QUESTION_AT : bad.end] if bad.end else b""
    return data[:2] + counts + question + opt
