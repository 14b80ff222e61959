"""What to believe of the files after a crash: the decision table, bytes in and a ``Log`` out.

``S`` is the end of what was certainly durable in a segment: where the next segment says that this
one ends, or the highest ``durable_end`` of its head and of any batch header that is whole.

    found at offset o          below S                     beyond S, explained       beyond S, not
                                                           by sectors that never     explained
                                                           arrived
    bad batch header           rot: frames are looked for, end of the log            suspect tail
                               missing ones are faulty
    bad payload, good header   faulty: index, ballot known torn: its batch is cut    suspect tail
    bad frame header           faulty: index known at best torn: its batch is cut    suspect tail
    promises unreadable        newer ones win, or suspect  torn: its batch is cut    suspect tail
    segment missing            stop, unless a snapshot covers what it held

*Torn* was never reported as durable, so cutting is right.  *Faulty* was durable: it is never cut
and never denied, only fetched from a peer.  *Suspect* is the one case that a node cannot decide
alone (Alagappan et al., "Protocol-Aware Recovery for Consensus-Based Storage", FAST 2018): damage
that no torn write leaves, where acknowledged writes may have been.

A power loss alone never makes a suspect tail; ``records`` says why.  Pure: no file is touched.
"""

from collections.abc import Iterable, Mapping

import msgspec

from waypost.storage.heads import SegmentHead
from waypost.storage.records import (
    BATCH_HEADER_BYTES,
    BODY_START,
    SECTOR,
    BatchHeader,
    Frame,
    Gap,
    batch_at,
    body_at,
    frames_crc,
    next_batch,
    sector_is_missing,
)
from waypost.storage.replay import Damage, Log


class Segment(msgspec.Struct, frozen=True):
    """A segment as it was read; ``end`` is None for the newest, which nothing has sealed."""

    file: str
    head: SegmentHead
    data: bytes
    end: int | None


def chain_of(heads: Mapping[str, SegmentHead]) -> list[str]:
    """The files that make up the log, oldest first: from the newest back, as far as it goes.

    Other files are left over from a crash while segments were replaced or dropped.
    """
    by_number = {head.number: file for file, head in heads.items()}
    file: str | None = max(heads, key=lambda file: heads[file].number)
    chain: list[str] = []
    while file is not None and file not in chain:
        chain.append(file)
        file = by_number.get(heads[file].previous)
    return chain[::-1]


def replay(segments: Iterable[Segment]) -> Log:
    """Read all segments of the log, oldest first."""
    log = Log()
    for count, segment in enumerate(segments):
        log.begin(segment.file, segment.head, is_oldest=count == 0)
        _replay_segment(log, segment)
    log.finish()
    return log


def _replay_segment(log: Log, segment: Segment) -> None:
    """Walk the batches of one segment until it ends, or until it cannot be believed further."""
    data, file = segment.data, segment.file
    at = BODY_START
    while segment.end is None or at < segment.end:
        header = batch_at(data, at, segment.head.segment)
        if header is None:
            durable_end = _durable_end(segment, at)
            if at >= durable_end:
                _judge_end(log, segment, at)
                return
            at = _salvage(log, segment, at, durable_end)
            continue
        parts = _body(data, header)
        damaged = [(p.offset, p.end) for p in parts if isinstance(p, Gap) or not p.is_sound]
        if damaged and header.end > _durable_end(segment, at):
            _judge_tail(log, segment, header, damaged)
            return
        if damaged:
            where = Damage(file, damaged[0][0], f"rot in a batch of {header.frames} frames")
        else:
            where = Damage(file, at, "unreadable since an earlier start")
        log.apply(parts, header, where, is_damaged=bool(damaged))
        at = header.end


def _durable_end(segment: Segment, at: int) -> int:
    """``S`` of the table, as far as anything at or behind ``at`` knows it."""
    if segment.end is not None:
        return segment.end
    durable_end = segment.head.durable_end
    header = next_batch(segment.data, at, segment.head.segment)
    while header is not None:
        durable_end = max(durable_end, header.durable_end)
        header = next_batch(segment.data, header.offset + SECTOR, segment.head.segment)
    return durable_end


def _body(data: bytes, header: BatchHeader) -> list[Frame | Gap]:
    """The frames of a batch; one gap if they are not those that its header was made for."""
    parts = body_at(data, header.body, header.body + header.body_bytes)
    crcs = [data[part.offset : part.offset + 4] for part in parts if isinstance(part, Frame)]
    if len(crcs) == len(parts) and (
        len(crcs) != header.frames or frames_crc(crcs) != header.frames_crc
    ):
        return [Gap(header.body, header.end)]
    return parts


def _salvage(log: Log, segment: Segment, at: int, durable_end: int) -> int:
    """A durable batch lost its header: take what frames there are, return where to go on."""
    following = next_batch(segment.data, at + SECTOR, segment.head.segment)
    end = durable_end if following is None else min(following.offset, durable_end)
    parts = body_at(segment.data, at + BATCH_HEADER_BYTES, end)
    where = Damage(segment.file, at, "rot in the header of a batch")
    log.apply(parts, None, where, is_damaged=True)
    return end


def _judge_end(log: Log, segment: Segment, at: int) -> None:
    """No batch begins here, and none was ever known durable."""
    if not sector_is_missing(segment.data, at, at + SECTOR):
        what = "no batch, nor the trace of a torn one: acknowledged writes may be lost"
        log.suspicion = Damage(segment.file, at, what)
    elif segment.data.count(b"\0", at) < len(segment.data) - at:
        log.notes.append(Damage(segment.file, at, "cut a torn batch"))


def _judge_tail(
    log: Log, segment: Segment, header: BatchHeader, damaged: list[tuple[int, int]]
) -> None:
    """A batch is damaged that was not known to be durable: torn, or suspect."""
    if any(sector_is_missing(segment.data, start, end) for start, end in damaged):
        log.notes.append(Damage(segment.file, header.offset, "cut a torn batch"))
    else:
        what = "damage that no torn write leaves: acknowledged writes may be lost"
        log.suspicion = Damage(segment.file, damaged[0][0], what)
