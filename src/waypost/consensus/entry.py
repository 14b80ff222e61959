"""The log entry and its frame: encoded once, then the same bytes on every disk and every wire.

A frame is a header of 48 bytes, the payload, and zeros up to a multiple of 8.  Little-endian:

    offset  size  field
         0     4  header_crc    CRC-32 of bytes 4 to 47
         4     4  payload_crc   CRC-32 of the payload and its padding
         8     4  length        of the payload, without the padding
        12     1  kind          0 batch, 1 seal, 2 no-op; 128 and above never leave their disk
        13     1  flags         0 in an entry
        14     2  reserved      0
        16     8  index
        24     8  ballot.epoch
        32     8  ballot.round
        40     4  ballot.node
        44     4  prev          header_crc of the entry before; 0 in the first entry of a log

Always true: the header has a checksum of its own, so a rotten payload still says which entry it
was (Alagappan et al., "Protocol-Aware Recovery", FAST 2018); and since ``header_crc`` covers
``payload_crc`` and ``prev``, equal header checksums mean equal logs up to there.

The checksum is ``zlib.crc32`` and not CRC-32C: both find every burst of up to 32 bits, the
standard library has this one, it lets go of the GIL for large payloads, and at some 3 GB/s it costs
a 20 KB batch less than a tenth of what its fsync costs.

Knows nothing of what the payload means.
"""

import struct
import zlib

import msgspec

from waypost.errors import CorruptData, Invalid

Ns = int
"""Monotonic nanoseconds, passed in by whoever calls."""
Index = int
"""Position of an entry in the log; the first one is 1."""
Nid = int
"""Number of a node, minted with its data directory and never used again; 0 is nobody."""

KIND_BATCH = 0
KIND_SEAL = 1
KIND_NOOP = 2
"""Says nothing: a leader's first entry, which commits what it found before it."""
LOCAL_KINDS = 0x80
"""Kinds from here on are a node's own notes in its write-ahead log."""

HEADER_BYTES = 48
PAYLOAD_BYTES_MAX = 64 << 20

_TAIL = struct.Struct("<IIBBHQQQII")
_HEADER = struct.Struct("<IIIBBHQQQII")
_PADS = tuple(bytes(n) for n in range(8))


class Ballot(msgspec.Struct, frozen=True, order=True, array_like=True, gc=False):
    """When an entry was made and by whom: ordered by epoch, then round, then node.

    Raft reads it as (term, leader), Multi-Paxos as (ballot number, proposer).
    """

    epoch: int
    round: int
    node: Nid


NO_BALLOT = Ballot(0, 0, 0)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One entry of the log.  The frame is the truth; the other fields are read from its header.

    An empty frame stands for an entry that was on this disk and of which nothing is readable any
    more; its ballot is ``NO_BALLOT``.
    """

    index: Index
    ballot: Ballot
    kind: int
    frame: bytes

    @property
    def payload(self) -> memoryview:
        """What was proposed, without a copy."""
        frame = self.frame
        assert frame, f"entry {self.index} is unreadable: it must be fetched before it is applied"
        return memoryview(frame)[
            HEADER_BYTES : HEADER_BYTES + int.from_bytes(frame[8:12], "little")
        ]

    @property
    def chain(self) -> int:
        """The header's checksum, which the next entry repeats as its ``prev``."""
        return int.from_bytes(self.frame[:4], "little")

    @property
    def prev(self) -> int:
        """The ``chain`` of the entry before."""
        return int.from_bytes(self.frame[44:48], "little")


class Header(msgspec.Struct, frozen=True, gc=False):
    """The header of a frame, its checksum verified."""

    crc: int
    payload_crc: int
    length: int
    kind: int
    flags: int
    index: Index
    ballot: Ballot
    prev: int

    @property
    def frame_bytes(self) -> int:
        """Size of the whole frame, padding included."""
        return HEADER_BYTES + (self.length + 7 & ~7)


def encode(index: Index, ballot: Ballot, kind: int, payload: bytes, prev: int) -> Entry:
    """Make an entry; this is the only time that its payload is copied and checksummed."""
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise Invalid(
            f"payload: {len(payload)} bytes, at most {PAYLOAD_BYTES_MAX}: propose smaller batches",
            field="payload",
        )
    return Entry(index, ballot, kind, pack(kind, index, ballot, payload, prev=prev))


def pack(
    kind: int, index: Index, ballot: Ballot, payload: bytes = b"", *, prev: int = 0, flags: int = 0
) -> bytes:
    """Build a frame of any kind."""
    length = len(payload)
    pad = _PADS[-length & 7]
    tail = _TAIL.pack(
        zlib.crc32(pad, zlib.crc32(payload)),
        length,
        kind,
        flags,
        0,
        index,
        ballot.epoch,
        ballot.round,
        ballot.node,
        prev,
    )
    crc = zlib.crc32(tail).to_bytes(4, "little")
    return b"".join((crc, tail, payload, pad))


def header_at(data: bytes | memoryview, offset: int = 0) -> Header | None:
    """The frame header that begins at ``offset``, or None if none begins there."""
    if offset < 0 or offset + HEADER_BYTES > len(data):
        return None
    crc, payload_crc, length, kind, flags, reserved, index, epoch, round_, node, prev = (
        _HEADER.unpack_from(data, offset)
    )
    if reserved or length > PAYLOAD_BYTES_MAX:
        return None
    if zlib.crc32(data[offset + 4 : offset + HEADER_BYTES]) != crc:
        return None
    ballot = Ballot(epoch, round_, node)
    return Header(crc, payload_crc, length, kind, flags, index, ballot, prev)


def parse(frame: bytes) -> Entry:
    """Read an entry's frame and verify every bit of it, or raise ``CorruptData``."""
    header = header_at(frame)
    if header is None:
        raise CorruptData(
            f"entry: its header of {HEADER_BYTES} bytes is short or does not match its checksum: "
            "fetch the entry from another copy"
        )
    if header.kind >= LOCAL_KINDS or header.flags:
        raise CorruptData(
            f"entry {header.index}: kind {header.kind} with flags {header.flags} is not a log "
            "entry: upgrade this node if a newer version wrote it"
        )
    end = HEADER_BYTES + header.length
    if len(frame) != header.frame_bytes or any(frame[end:]):
        raise CorruptData(
            f"entry {header.index}: its frame has {len(frame)} bytes and its header says "
            f"{header.frame_bytes}, zeros at the end: fetch the entry from another copy"
        )
    if not payload_is_whole(header, frame):
        raise CorruptData(
            f"entry {header.index}: its payload does not match its checksum: fetch the entry from "
            "another copy"
        )
    return Entry(header.index, header.ballot, header.kind, frame)


def payload_is_whole(header: Header, data: bytes | memoryview, offset: int = 0) -> bool:
    """Whether payload and padding of the frame at ``offset`` are what its header was made for."""
    end = offset + header.frame_bytes
    payload = memoryview(data)[offset + HEADER_BYTES : end]
    return end <= len(data) and zlib.crc32(payload) == header.payload_crc
