"""Byte layout of the write-ahead log: batch headers, and a node's own frames.

A segment file is two copies of its head (512 bytes each, see ``heads``), then batches.  A batch is
a header of 56 bytes, frames, and filler up to the next multiple of 512.  Every frame, a log entry
or a note of this node, has the header told in ``waypost.consensus.entry``.

Always true:

* each sector of 512 bytes belongs to one batch only, so a write that is torn by a power loss can
  damage no batch that was durable before;
* the filler is not zero, so a sector of a whole batch begins or ends with eight zero bytes only if
  a field or a payload happens to be zero just there.  Sectors that never arrived read as zeros;
  that is how a torn write is told from rot (``sector_is_missing``).

Pure: bytes in, values out.  What is no valid record is None here; ``recovery`` knows what that
means where it stands.
"""

import struct
import zlib
from collections.abc import Sequence

import msgspec

from waypost.consensus.core import Hard, Snap
from waypost.consensus.entry import (
    HEADER_BYTES,
    LOCAL_KINDS,
    NO_BALLOT,
    Ballot,
    Entry,
    Header,
    Index,
    header_at,
    pack,
    payload_is_whole,
)
from waypost.consensus.epoch import Epoch, decode_epoch, encode_epoch

SECTOR = 512
BODY_START = 2 * SECTOR
"""Where the first batch of a segment begins."""
BATCH_HEADER_BYTES = 56

KIND_HARD = LOCAL_KINDS
KIND_TRUNCATE = LOCAL_KINDS + 1
KIND_SNAPMARK = LOCAL_KINDS + 2
KIND_HOLE = LOCAL_KINDS + 3
KIND_EPOCH = LOCAL_KINDS + 4
KIND_LEFT = LOCAL_KINDS + 5

_SUSPECT = 1

FILLER = memoryview(b"\xa5" * SECTOR)
_FILLER_BYTES = bytes(FILLER)

_BATCH_MAGIC = 0x48425057  # "WPBH"
_BATCH = struct.Struct("<IIQQIIQQII")
_BATCH_TAIL = struct.Struct("<QQIIQQII")
_ACCEPTED = struct.Struct("<QQII")


class BatchHeader(msgspec.Struct, frozen=True, gc=False):
    """What stands ahead of the frames that became durable together."""

    offset: int
    body_bytes: int
    frames: int
    durable_end: int
    """End of the last batch of this segment that was durable when this one was written."""
    last: Index
    """Last index of the log after this batch."""
    frames_crc: int
    notes: int
    """Frames of this segment that are no entries, up to the end of this batch."""

    @property
    def body(self) -> int:
        """Offset of the first frame."""
        return self.offset + BATCH_HEADER_BYTES

    @property
    def end(self) -> int:
        """Offset of the next batch."""
        return padded(self.body + self.body_bytes)


class Truncate(msgspec.Struct, frozen=True, gc=False):
    """The log from ``start`` on is gone."""

    start: Index


class Hole(msgspec.Struct, frozen=True, gc=False):
    """Here was an entry of which nothing is readable any more."""

    index: Index


class Started(msgspec.Struct, frozen=True, gc=False):
    """This node takes part in ``epoch`` from here on."""

    epoch: Epoch


class Left(msgspec.Struct, frozen=True, gc=False):
    """This node has left its epoch for ``epoch``, which it has not started yet."""

    epoch: Epoch


Record = Entry | Hard | Truncate | Snap | Hole | Started | Left


class Frame(msgspec.Struct, frozen=True, gc=False):
    """A frame found on disk.

    An entry is given even when its payload is rotten (``is_whole`` is false); ``record`` is None
    for a note that is rotten or of an unknown kind.
    """

    offset: int
    header: Header
    is_whole: bool
    record: Record | None

    @property
    def end(self) -> int:
        """Offset behind it."""
        return self.offset + self.header.frame_bytes

    @property
    def is_note(self) -> bool:
        """Whether it is no log entry."""
        return self.header.kind >= LOCAL_KINDS

    @property
    def is_sound(self) -> bool:
        """Whether all of it is what was written."""
        return self.is_whole and self.record is not None


class Gap(msgspec.Struct, frozen=True, gc=False):
    """A range of bytes in which no frame begins, though some did."""

    offset: int
    end: int


def padded(offset: int) -> int:
    """Round up to a whole sector."""
    return -(-offset // SECTOR) * SECTOR


def encode_batch_header(
    segment: int,
    offset: int,
    body_bytes: int,
    frames: int,
    durable_end: int,
    last: Index,
    frames_crc: int,
    notes: int,
) -> bytes:
    """Build the header of a batch."""
    tail = _BATCH_TAIL.pack(
        segment, offset, body_bytes, frames, durable_end, last, frames_crc, notes
    )
    return _BATCH_MAGIC.to_bytes(4, "little") + zlib.crc32(tail).to_bytes(4, "little") + tail


def batch_at(data: bytes, offset: int, segment: int) -> BatchHeader | None:
    """The header of the batch of this segment that begins at ``offset``, or None."""
    if offset < 0 or offset + BATCH_HEADER_BYTES > len(data):
        return None
    magic, crc, found, at, body_bytes, frames, durable_end, last, frames_crc, notes = (
        _BATCH.unpack_from(data, offset)
    )
    if magic != _BATCH_MAGIC or found != segment or at != offset:
        return None
    if zlib.crc32(data[offset + 8 : offset + BATCH_HEADER_BYTES]) != crc:
        return None
    return BatchHeader(offset, body_bytes, frames, durable_end, last, frames_crc, notes)


def next_batch(data: bytes, offset: int, segment: int) -> BatchHeader | None:
    """The first batch of this segment that begins at ``offset`` or later."""
    magic = _BATCH_MAGIC.to_bytes(4, "little")
    while (offset := data.find(magic, offset)) >= 0:
        if offset % SECTOR == 0 and (header := batch_at(data, offset, segment)):
            return header
        offset += 1
    return None


def frames_crc(frames: Sequence[bytes]) -> int:
    """Checksum over the frames' header checksums: binds a batch to exactly these frames."""
    return zlib.crc32(b"".join([frame[:4] for frame in frames]))


def encode_hard(hard: Hard) -> bytes:
    """The frame that remembers promises."""
    accepted = hard.accepted
    payload = _ACCEPTED.pack(accepted.epoch, accepted.round, accepted.node, 0)
    flags = _SUSPECT if hard.suspect else 0
    return pack(KIND_HARD, hard.commit, hard.promised, payload, flags=flags)


def encode_truncate(start: Index) -> bytes:
    """The frame that drops the log from ``start`` on."""
    return pack(KIND_TRUNCATE, start, NO_BALLOT)


def encode_snapmark(snap: Snap) -> bytes:
    """The frame that says: this snapshot is durable."""
    return pack(KIND_SNAPMARK, snap.index, snap.ballot, prev=snap.chain, flags=snap.kind)


def encode_hole(index: Index) -> bytes:
    """The frame that stands for an unreadable entry."""
    return pack(KIND_HOLE, index, NO_BALLOT)


def encode_started(epoch: Epoch) -> bytes:
    """The frame that says: this node takes part in ``epoch``."""
    return pack(KIND_EPOCH, epoch.first, epoch.seal_ballot, encode_epoch(epoch))


def encode_left(epoch: Epoch) -> bytes:
    """The frame that says: this node is on its way to ``epoch``."""
    return pack(KIND_LEFT, epoch.first, epoch.seal_ballot, encode_epoch(epoch))


def body_at(data: bytes, start: int, end: int) -> list[Frame | Gap]:
    """Find frames from ``start`` on, resynchronising at every multiple of 8 after damage.

    Filler up to ``end`` is the regular end of a body and not damage.
    """
    parts: list[Frame | Gap] = []
    at = start
    lost_from: int | None = None
    while at < end:
        header = header_at(data, at)
        if header is not None and at + header.frame_bytes <= end:
            if lost_from is not None:
                parts.append(Gap(lost_from, at))
                lost_from = None
            frame = _frame(data, at, header)
            parts.append(frame)
            at = frame.end
        elif end - at < SECTOR and data[at:end] == _FILLER_BYTES[: end - at]:
            break
        else:
            if lost_from is None:
                lost_from = at
            at += 8
    if lost_from is not None:
        parts.append(Gap(lost_from, min(at, end)))
    return parts


def _frame(data: bytes, offset: int, header: Header) -> Frame:
    is_whole = payload_is_whole(header, data, offset)
    record: Record | None
    match header.kind:
        case kind if kind < LOCAL_KINDS:
            raw = data[offset : offset + header.frame_bytes]
            record = Entry(header.index, header.ballot, kind, raw)
        case _ if not is_whole:
            record = None
        case kind if kind == KIND_HARD and header.length == _ACCEPTED.size:
            epoch, round_, node, _ = _ACCEPTED.unpack_from(data, offset + HEADER_BYTES)
            record = Hard(
                header.ballot,
                Ballot(epoch, round_, node),
                header.index,
                bool(header.flags & _SUSPECT),
            )
        case kind if kind == KIND_TRUNCATE:
            record = Truncate(header.index)
        case kind if kind == KIND_SNAPMARK:
            record = Snap(header.index, header.ballot, header.flags, header.prev)
        case kind if kind == KIND_HOLE:
            record = Hole(header.index)
        case kind if kind in (KIND_EPOCH, KIND_LEFT):
            record = _epoch_record(kind, payload_at(header, data, offset))
        case _:
            record = None
    return Frame(offset, header, is_whole, record)


def payload_at(header: Header, data: bytes, offset: int) -> bytes:
    """The payload of the frame at ``offset``, without its padding."""
    begin = offset + HEADER_BYTES
    return data[begin : begin + header.length]


def _epoch_record(kind: int, payload: bytes) -> Record | None:
    try:
        epoch = decode_epoch(payload)
    except msgspec.MsgspecError:
        return None  # of a newer version, or written wrongly: the checksum holds
    return Started(epoch) if kind == KIND_EPOCH else Left(epoch)


def sector_is_missing(data: bytes, start: int, end: int) -> bool:
    """Whether some sector between ``start`` and ``end`` has a part that never arrived.

    Such a part reads as zeros and reaches the beginning or the end of its sector, or it lies
    beyond the end of the file.
    """
    zeros = bytes(8)
    for offset in range(start - start % SECTOR, end, SECTOR):
        sector = data[offset : offset + SECTOR]
        if len(sector) < SECTOR or sector.startswith(zeros) or sector.endswith(zeros):
            return True
    return False
