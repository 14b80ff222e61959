"""Reading a node's directory at start: what its files say, and whether that may be believed.

``recovery`` judges each byte; here the segments, the snapshot and the operator's word are put
together into one ``Boot``.  A node with peers is told of damage there and repairs it from them.  A
node alone refuses damage, naming file, offset and the way out, until the operator accepts the loss.

Changes nothing, but for removing half-made files, which nobody was ever told of.
"""

from collections.abc import Iterator

import msgspec

from waypost.consensus.core import NO_BALLOT, Boot, Hard, Index, Nid, Snap
from waypost.consensus.epoch import Epoch
from waypost.errors import CorruptData, Invalid
from waypost.storage.disk import Disk, File
from waypost.storage.heads import VERSION, VERSIONS_READ, SegmentHead, decode_head, head_version
from waypost.storage.records import (
    BATCH_HEADER_BYTES,
    BODY_START,
    encode_hole,
    encode_left,
    encode_started,
    encode_truncate,
    padded,
)
from waypost.storage.recovery import Segment, chain_of, replay
from waypost.storage.replay import Damage, Log

FLAG = "--accept-data-loss"
_CHUNK_BYTES = 4 << 20
_BATCH_BYTES = 4 << 20


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Frames that become durable together."""

    frames: list[bytes]
    body_bytes: int
    last: Index
    """Last index of the log after them."""
    notes: int
    """How many of them are no entries."""

    @property
    def padded_bytes(self) -> int:
        """What it takes on disk."""
        return padded(BATCH_HEADER_BYTES + self.body_bytes)


class Found(msgspec.Struct, frozen=True):
    """What was on the disk."""

    boot: Boot
    log: Log
    chain: tuple[tuple[str, SegmentHead], ...]
    """The files of the log with their heads, oldest first."""
    stale: tuple[str, ...]
    """Other segments, which may go once the log stands in a new one."""
    number: int
    """The highest number of a segment so far."""
    notes: tuple[str, ...]


def segment_name(number: int) -> str:
    """The name of a segment's file; names sort as segments do."""
    return f"wal-{number:016x}.log"


def find(
    disk: Disk,
    *,
    cluster: int,
    node: Nid,
    snap: Snap,
    snap_epoch: Epoch | None,
    has_peers: bool,
    accept_data_loss: bool,
) -> Found:
    """Read the log, or raise ``CorruptData`` when it cannot be had whole and must be."""
    files = _segment_files(disk)
    heads = _read_heads(disk, files, cluster, node)
    doubts: list[Damage] = []
    if files and files[-1] not in heads:
        doubts.append(Damage(files[-1], 0, "both copies of the segment's head are unreadable"))
    elif snap.index and not files:
        doubts.append(Damage("wal-*.log", 0, f"no log beside the snapshot at {snap.index}"))
    chain, log = _read_log(disk, heads, snap, accept_data_loss=accept_data_loss)
    newest = chain[-1] if chain else "wal-*.log"
    if log.first > snap.index + 1:
        what = f"entries {snap.index + 1} to {log.first - 1} are in no snapshot and no segment"
        doubts.append(Damage(chain[0], 0, what))
    if doubts and not accept_data_loss:
        raise _refusal(doubts[0], snap.index + 1)  # peers or not: there is nothing to stand on

    doubts += _join(log, snap, newest, has_peers=has_peers)
    if log.suspicion is not None:
        doubts.append(log.suspicion)
    elif log.hard.suspect:
        doubts.append(Damage(newest, 0, "in doubt since an earlier start"))
    reach = max(log.last, snap.index)
    if log.hard.commit > reach:
        what = f"the log ends at {reach}, yet {log.hard.commit} was committed"
        doubts.append(Damage(newest, 0, what))
    faulty = sorted(index for index in log.faulty if index > snap.index)
    notes = tuple(str(damage) for damage in (*log.notes, *doubts))
    if accept_data_loss:
        if faulty:
            log.cut(faulty[0])
        reach = max(log.last, snap.index)
        doubts, faulty = [], []
    elif not has_peers and faulty:
        raise _refusal(log.faulty[faulty[0]], faulty[0])
    elif not has_peers and doubts:
        raise _refusal(doubts[0], reach + 1)

    log.hard = Hard(
        # Promises only grow, so a head that is not part of the log any more still counts.
        max([log.hard.promised, *(head.hard.promised for head in heads.values())]),
        log.hard.accepted,
        min(max(log.hard.commit, snap.index), reach),
        bool(doubts),
    )
    entries = tuple(log.entries[snap.index + 1 - log.first :])
    return Found(
        Boot(log.hard, snap, entries, tuple(faulty), log.epoch, _left(log, snap_epoch)),
        log,
        tuple((file, heads[file]) for file in chain),
        tuple(file for file in files if file not in chain),
        max((int(file[4:-4], 16) for file in files), default=0),
        notes,
    )


def _left(log: Log, snap_epoch: Epoch | None) -> Epoch | None:
    """The newest epoch that is known and was not started: a peer's snapshot may tell of one."""
    number = log.epoch.number if log.epoch is not None else 0
    left: Epoch | None = None
    for epoch in (log.left, snap_epoch):
        if epoch is not None and epoch.number > number:
            left, number = epoch, epoch.number
    return left


def epochs_of(epoch: Epoch | None, left: Epoch | None, last: Index) -> tuple[Batch, ...]:
    """What every segment begins with, so that those before it may go."""
    frames: list[bytes] = []
    if epoch is not None:
        frames.append(encode_started(epoch))
    if left is not None:
        frames.append(encode_left(left))
    return (Batch(frames, sum(map(len, frames)), last, len(frames)),) if frames else ()


def batches_of(log: Log, first: Index) -> Iterator[Batch]:
    """What makes the log what it is, for who has its segments before ``first``."""
    frames: list[bytes] = []
    size = notes = 0
    if log.low < first:
        frames.append(encode_truncate(log.low))
        size, notes = len(frames[0]), 1
    last = log.low - 1
    for entry in log.entries[log.low - log.first :]:
        frame = entry.frame or encode_hole(entry.index)
        notes += not entry.frame
        frames.append(frame)
        size += len(frame)
        last = entry.index
        if size >= _BATCH_BYTES:
            yield Batch(frames, size, last, notes)
            frames, size, notes = [], 0, 0
    if frames:
        yield Batch(frames, size, last, notes)


def _segment_files(disk: Disk) -> list[str]:
    files: list[str] = []
    for name in disk.names():
        if name.startswith("wal-") and name.endswith(".tmp"):
            disk.unlink(name)
        elif name.startswith("wal-") and name.endswith(".log"):
            files.append(name)
    return files


def _read_heads(disk: Disk, files: list[str], cluster: int, node: Nid) -> dict[str, SegmentHead]:
    """Read the heads that can be read, and check that they are ours."""
    heads: dict[str, SegmentHead] = {}
    for name in files:
        file = disk.open(name)
        data = disk.read(file, 0, BODY_START)
        disk.close(file)
        version = head_version(data)
        if version is not None and version not in VERSIONS_READ:
            raise CorruptData(
                f"{name}: written in format {version}, and this version of Waypost reads formats "
                f"up to {VERSION}: upgrade Waypost, or start the version that wrote it"
            )
        head = decode_head(data)
        if head is None:
            continue
        if (head.cluster, head.node) != (cluster, node):
            raise Invalid(
                f"data directory: it belongs to node {head.node} of cluster {head.cluster:#x}, and "
                f"this is node {node} of cluster {cluster:#x}: give each node its own directory",
                field="data directory",
            )
        heads[name] = head
    return heads


def _read_log(
    disk: Disk, heads: dict[str, SegmentHead], snap: Snap, *, accept_data_loss: bool
) -> tuple[list[str], Log]:
    """Read the chain that ends in the newest segment, or in the newest that is of any use."""
    usable = dict(heads)
    while True:
        chain = chain_of(usable) if usable else []
        log = replay(_read_segments(disk, chain, heads))
        if log.first <= snap.index + 1 or not accept_data_loss:
            return chain, log
        del usable[chain[-1]]


def _read_segments(
    disk: Disk, chain: list[str], heads: dict[str, SegmentHead]
) -> Iterator[Segment]:
    for position, name in enumerate(chain):
        is_newest = position + 1 == len(chain)
        end = None if is_newest else heads[chain[position + 1]].previous_end
        file = disk.open(name)
        data = _read_all(disk, file)
        disk.close(file)
        yield Segment(name, heads[name], data, end)


def _read_all(disk: Disk, file: File) -> bytes:
    parts: list[bytes] = []
    offset = 0
    while part := disk.read(file, offset, _CHUNK_BYTES):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def _join(log: Log, snap: Snap, file: str, *, has_peers: bool) -> list[Damage]:
    """Let the log go on behind the snapshot; return what is wrong with that."""
    doubts: list[Damage] = []
    if log.last < snap.index:
        what = f"the log ends at {log.last}, before the snapshot at {snap.index}"
    elif snap.index < log.first or log.entries[snap.index - log.first].ballot in (
        snap.ballot,
        NO_BALLOT,
    ):
        return doubts
    else:
        what = f"entry {snap.index} is not the one that the snapshot was taken at"
    if not has_peers:
        doubts.append(Damage(file, 0, what))
    # With peers this is a snapshot that they sent, durable before the log could say so.
    log.restart_after(snap)
    return doubts


def _refusal(damage: Damage, index: Index) -> CorruptData:
    return CorruptData(
        f"{damage}. Acknowledged writes from entry {index} on may be lost. Restore the directory "
        "from a backup; or, in a cluster, remove it and let this node join anew; or copy it away "
        f"and start once with {FLAG}, to go on without those entries"
    )
