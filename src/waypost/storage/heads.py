"""The head of a segment: whose log it is, and what that log is before the segment begins.

It is written twice, in a sector each, so that a torn write or one rotten sector loses neither; and
it says all that the segments before it say of promises and of the newest snapshot, so those can go.

Pure: bytes in, values out.  What is no valid head is None.
"""

import struct
import zlib

import msgspec

from waypost.consensus.core import Hard, Snap
from waypost.consensus.entry import Ballot, Index
from waypost.storage.records import SECTOR

VERSION = 2
VERSIONS_READ = (1, VERSION)
"""Version 1 knew no epochs; all else is as it was."""

_HEAD = struct.Struct("<8sIQQQIQIQQIQQIQBQQQIBIQQQ")
_HEAD_MAGIC = b"WAYPOST\n"


class SegmentHead(msgspec.Struct, frozen=True, gc=False):
    """What a segment says of itself, and of the log up to where it begins."""

    cluster: int
    node: int
    number: int
    """Of the segment; each new one has a higher number."""
    segment: int
    """Random, in every batch header: what another file left behind is not taken for ours."""
    first: Index
    """The index after the last entry before this segment."""
    chain: int
    """Header checksum of that last entry, 0 if unknown."""
    hard: Hard
    snap: Snap
    """The newest snapshot that was marked before this segment."""
    previous: int
    """Number of the segment before; 0 if the log begins here."""
    previous_end: int
    """How much of that one was written and is durable."""
    durable_end: int
    """How much of this one was durable when it got its name."""


def encode_head(head: SegmentHead) -> bytes:
    """Both copies of a segment's head."""
    hard, snap = head.hard, head.snap
    data = _HEAD.pack(
        _HEAD_MAGIC,
        VERSION,
        head.cluster,
        head.number,
        head.segment,
        head.node,
        head.first,
        head.chain,
        hard.promised.epoch,
        hard.promised.round,
        hard.promised.node,
        hard.accepted.epoch,
        hard.accepted.round,
        hard.accepted.node,
        hard.commit,
        hard.suspect,
        snap.index,
        snap.ballot.epoch,
        snap.ballot.round,
        snap.ballot.node,
        snap.kind,
        snap.chain,
        head.previous,
        head.previous_end,
        head.durable_end,
    )
    copy = data.ljust(SECTOR - 4, b"\0")
    return (copy + zlib.crc32(copy).to_bytes(4, "little")) * 2


def head_version(data: bytes) -> int | None:
    """The format version of a segment, from the first head that is whole."""
    for start in (0, SECTOR):
        copy = data[start : start + SECTOR]
        if (
            len(copy) == SECTOR
            and copy.startswith(_HEAD_MAGIC)
            and zlib.crc32(copy[:-4]) == int.from_bytes(copy[-4:], "little")
        ):
            return int.from_bytes(copy[8:12], "little")
    return None


def decode_head(data: bytes) -> SegmentHead | None:
    """Read a segment's head from its first 1024 bytes: either copy will do."""
    if head_version(data) not in VERSIONS_READ:
        return None
    start = 0 if head_version(data[:SECTOR]) in VERSIONS_READ else SECTOR
    fields = _HEAD.unpack_from(data, start)
    _, _, cluster, number, segment, node, first, chain = fields[:8]
    hard = Hard(Ballot(*fields[8:11]), Ballot(*fields[11:14]), fields[14], bool(fields[15]))
    snap = Snap(fields[16], Ballot(*fields[17:20]), fields[20], fields[21])
    previous, previous_end, durable_end = fields[22:]
    return SegmentHead(
        cluster,
        node,
        number,
        segment,
        first,
        chain,
        hard,
        snap,
        previous,
        previous_end,
        durable_end,
    )
