"""The write-ahead log: every write of the core, durable in the order in which it was made.

``write`` puts any number of writes into one batch: one ``pwritev`` of the very frames that the core
made, one ``fdatasync``.  A batch is believed whole or not at all, so what recovery returns is
always the state after some whole number of writes (D3 in ``waypost.consensus.core``).

Files are ``wal-<number>.log``, of a size that is reserved before they are used, so that a full disk
shows while the next one is prepared and never in the middle of a batch.  A segment gets its name
only when its head is durable.  At every start the newest segment is copied into a new one: bytes
that a failed fsync left in the page cache become durable, or are gone, before anyone hears of them.

``write``, ``mark`` and ``drop_below`` are for one thread, the disk thread; ``prepare`` may run on
another at the same time.  After ``StorageFailed`` nothing more is accepted: the process must end.
"""

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence

import msgspec

from waypost.consensus.core import NO_SNAP, Boot, Hard, Index, Nid, Seq, Snap, Write
from waypost.errors import ReadOnly, StorageFailed
from waypost.storage.disk import Disk, File
from waypost.storage.records import (
    BATCH_HEADER_BYTES,
    BODY_START,
    FILLER,
    SECTOR,
    SegmentHead,
    encode_batch_header,
    encode_hard,
    encode_head,
    encode_hole,
    encode_snapmark,
    encode_truncate,
    frames_crc,
    padded,
)
from waypost.storage.replay import Log
from waypost.storage.restart import Found, find, segment_name

SEGMENT_BYTES = 64 << 20
_ZEROS = memoryview(bytes(1 << 20))
_COPY_BATCH_BYTES = 4 << 20
_RESERVE_BYTES = 64 << 10
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

Draw = Callable[[], int]
_Batch = tuple[list[bytes], int, Index, int]
"""Frames, their bytes, the log's last index after them, and how many of them are no entries."""


def random_id() -> int:
    """Draw 64 bits that are not 0."""
    return int.from_bytes(os.urandom(8), "little") or 1


class _File(msgspec.Struct, gc=False):
    """A segment on disk."""

    name: str
    head: SegmentHead


class _Spare(msgspec.Struct, frozen=True, gc=False):
    """A segment that is prepared and has no head yet."""

    name: str
    file: File
    size: int


class Wal:
    """The log of one node.  ``notes`` is what recovery found odd, for the node to tell."""

    def __init__(
        self, disk: Disk, cluster: int, node: Nid, segment_bytes: int, draw_id: Draw
    ) -> None:
        assert segment_bytes > BODY_START
        self.notes: tuple[str, ...] = ()
        self._disk = disk
        self._cluster = cluster
        self._node = node
        self._segment_bytes = padded(segment_bytes)
        self._draw_id = draw_id
        self._failure: str | None = None
        self._spare: _Spare | None = None
        self._preparing = threading.Lock()
        # The log as it is on disk.
        self._files: list[_File] = []  # oldest first; the last one is written to
        self._hard = Hard()
        self._mark = NO_SNAP
        self._durable_mark: Index = 0
        self._last: Index = 0
        self._chain = 0  # header checksum of the last entry, 0 if unknown
        self._durable_seq: Seq = 0
        # The segment that is written to.
        self._file: File = -1
        self._segment = 0
        self._size = 0
        self._end = BODY_START  # where the next batch begins
        self._durable_end = BODY_START
        self._told_end = BODY_START  # the highest durable_end that a header tells
        self._notes = 0  # frames that are no entries

    @classmethod
    def open(
        cls,
        disk: Disk,
        *,
        cluster: int,
        node: Nid,
        snap: Snap | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        has_peers: bool = False,
        accept_data_loss: bool = False,
        draw_id: Draw = random_id,
    ) -> "tuple[Wal, Boot]":
        """Recover the log, and begin a new segment; nothing may be answered before this returns.

        ``snap`` is the newest snapshot that could be verified.  With peers, damage is reported in
        the ``Boot``; a node alone refuses it with ``CorruptData``, unless ``accept_data_loss``
        gives up everything from the damage on.
        """
        wal = cls(disk, cluster, node, segment_bytes, draw_id)
        try:
            found = find(
                disk,
                cluster=cluster,
                node=node,
                snap=snap or NO_SNAP,
                has_peers=has_peers,
                accept_data_loss=accept_data_loss,
            )
            wal.notes = found.notes
            wal._continue(found)
        except OSError as error:
            raise wal._failed("opening the log", error) from error
        return wal, found.boot

    @property
    def durable_seq(self) -> Seq:
        """The highest ``Write.seq`` of this run that is durable, with all before it."""
        return self._durable_seq

    @property
    def needs_segment(self) -> bool:
        """Whether it is time for ``prepare``: half of the segment is used, and no other ready."""
        return self._spare is None and 2 * self._end >= self._size

    def write(self, writes: Sequence[Write]) -> Seq:
        """Append writes as one batch, and sync it if one of them asks; return ``durable_seq``.

        Raises ``ReadOnly``, with nothing written, when the segment is full and the disk too.
        """
        if self._failure is not None:
            raise StorageFailed(self._failure)
        frames: list[bytes] = []
        last, chain, hard, mark = self._last, self._chain, self._hard, self._mark
        entries = 0
        sync = False
        for write in writes:
            if write.truncate is not None:
                assert write.truncate <= last + 1, f"nothing to cut at {write.truncate}"
                frames.append(encode_truncate(write.truncate))
                last, chain = write.truncate - 1, 0
            if write.entries:
                for entry in write.entries:
                    last += 1
                    assert entry.index == last, f"entry {entry.index} cannot stand at {last}"
                    frames.append(entry.frame or encode_hole(last))
                    entries += entry.frame != b""
                chain = write.entries[-1].chain
            if write.snap is not None:
                mark = write.snap
                frames.append(encode_snapmark(mark))
                if mark.index > last:
                    last, chain = mark.index, mark.chain
            if write.hard is not None:
                hard = write.hard
                frames.append(encode_hard(hard))
            sync = sync or write.sync

        notes = len(frames) - entries
        body_bytes = sum(map(len, frames))
        need = padded(BATCH_HEADER_BYTES + body_bytes)
        if self._end + need > self._size:
            self._rotate(need)
        try:
            self._append(frames, body_bytes, last, notes)
            if sync:
                self._disk.sync(self._file)
        except OSError as error:
            raise self._failed(f"writing {self._files[-1].name}", error) from error
        self._last, self._chain, self._hard, self._mark = last, chain, hard, mark
        if sync:
            self._durable_end = self._end
            self._durable_seq = writes[-1].seq
            self._durable_mark = mark.index
        return self._durable_seq

    def mark(self) -> None:
        """Note how far the log is durable, unsynced; for a log that has been idle for a while.

        What stands before that mark can never again be taken for a torn tail.
        """
        if self._failure is not None:
            raise StorageFailed(self._failure)
        if self._told_end < self._durable_end == self._end < self._size:
            try:
                self._append([], 0, self._last, 0)
            except OSError as error:
                raise self._failed(f"writing {self._files[-1].name}", error) from error

    def prepare(self) -> None:
        """Reserve the next segment.  Raises ``ReadOnly`` while the disk is full; try later.

        It is filled with zeros too, in pieces that no sync of the log has to wait for long: a sync
        then costs a third less, since the file system has no extents to convert.
        """
        with self._preparing:
            if self._failure is not None:
                raise StorageFailed(self._failure)
            if self._spare is None:
                spare = self._reserve(self._segment_bytes)
                try:
                    for offset in range(0, spare.size, len(_ZEROS)):
                        self._disk.write(spare.file, (_ZEROS[: spare.size - offset],), offset)
                        self._disk.sync(spare.file)
                except OSError as error:
                    raise self._failed("preparing a segment", error) from error
                self._spare = spare

    def drop_below(self, index: Index) -> None:
        """Delete the segments of which every entry is at or below ``index``.

        Only when a write with a snapshot at or above ``index`` is durable; pass
        ``SnapshotStore.floor`` to keep what an older snapshot needs.
        """
        if self._failure is not None:
            raise StorageFailed(self._failure)
        assert index <= self._durable_mark, (
            f"no snapshot at {index} is marked durably, only at {self._durable_mark}"
        )
        files = self._files
        count = 0
        while count + 1 < len(files) and files[count + 1].head.first <= index + 1:
            count += 1
        if not count:
            return
        try:
            for file in files[:count]:
                self._disk.unlink(file.name)
            self._disk.sync_names()
        except OSError as error:
            raise self._failed("deleting old segments", error) from error
        del files[:count]

    def close(self) -> None:
        """Give the files back; the log stays as it is."""
        self._disk.close(self._file)
        if self._spare is not None:
            self._disk.close(self._spare.file)
            self._spare = None

    # Segments.

    def _append(self, frames: list[bytes], body_bytes: int, last: Index, notes: int) -> None:
        """Write one batch behind the last one, unsynced; ``notes`` of its frames are no entries."""
        offset, durable_end = self._end, self._durable_end
        notes += self._notes
        header = encode_batch_header(
            self._segment,
            offset,
            body_bytes,
            len(frames),
            durable_end,
            last,
            frames_crc(frames),
            notes,
        )
        filler = FILLER[: -(BATCH_HEADER_BYTES + body_bytes) % SECTOR]
        self._disk.write(self._file, (header, *frames, filler), offset)
        self._end = padded(offset + BATCH_HEADER_BYTES + body_bytes)
        self._told_end = durable_end
        self._notes = notes

    def _rotate(self, need: int) -> None:
        """Seal the segment and go on in the next one; on ``ReadOnly`` nothing has happened."""
        with self._preparing:
            spare = self._spare
            if spare is not None and spare.size >= BODY_START + need:
                self._spare = None
            else:
                spare = self._reserve(max(self._segment_bytes, BODY_START + need))
        try:
            if self._durable_end < self._end:
                self._disk.sync(self._file)
            current = self._files[-1].head
            self._begin(
                spare,
                number=current.number + 1,
                first=self._last + 1,
                chain=self._chain,
                previous=current.number,
                previous_end=self._end,
                copied=(),
            )
        except OSError as error:
            raise self._failed("starting a segment", error) from error

    def _begin(
        self,
        spare: _Spare,
        *,
        number: int,
        first: Index,
        chain: int,
        previous: int,
        previous_end: int,
        copied: Sequence[_Batch],
    ) -> None:
        """Make a spare segment the one that is written to, ``copied`` batches in it."""
        old = self._file
        self._file, self._size, self._segment = spare.file, spare.size, self._draw_id()
        self._end = self._durable_end = self._told_end = BODY_START
        self._notes = 0
        for batch in copied:
            self._append(*batch)
        head = SegmentHead(
            cluster=self._cluster,
            node=self._node,
            number=number,
            segment=self._segment,
            first=first,
            chain=chain,
            hard=self._hard,
            snap=self._mark,
            previous=previous,
            previous_end=previous_end,
            durable_end=self._end,
        )
        self._disk.write(self._file, (encode_head(head),), 0)
        self._disk.sync(self._file)
        self._durable_end = self._told_end = self._end
        name = segment_name(number)
        self._disk.rename(spare.name, name)
        self._disk.sync_names()
        self._files.append(_File(name, head))
        if old >= 0:
            self._disk.close(old)

    def _reserve(self, size: int) -> _Spare:
        name = f"wal-{self._draw_id():016x}.tmp"
        size = padded(size)
        try:
            file = self._disk.create(name, size)
            self._disk.sync(file)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise ReadOnly(
                    f"disk full: no room for a log segment of {size} bytes: free some space; "
                    "writes are accepted again as soon as it is there"
                ) from error
            raise self._failed("preparing a segment", error) from error
        return _Spare(name, file, size)

    def _failed(self, doing: str, error: OSError) -> StorageFailed:
        self._failure = (
            f"disk: {doing} failed: {error}: this process must end; what is on the disk is checked "
            "at the next start"
        )
        return StorageFailed(self._failure)

    def _continue(self, found: Found) -> None:
        """Begin a segment with what the newest one held, then delete what it replaces."""
        log = found.log
        self._hard, self._mark = log.hard, log.mark
        self._durable_mark = log.mark.index
        self._last, self._chain = log.last, log.chain_at(log.last)
        older = () if log.is_restarted else found.chain[:-1]
        self._files = [_File(name, head) for name, head in older]
        if log.is_restarted or not found.chain:
            first, chain, previous, previous_end = log.first, log.chain_at(log.first - 1), 0, 0
        else:
            head = found.chain[-1][1]
            first, chain = head.first, head.chain
            previous, previous_end = head.previous, head.previous_end
        batches = list(_copies(log, first))
        need = BODY_START + sum(padded(BATCH_HEADER_BYTES + size) for _, size, _, _ in batches)
        try:
            spare = self._reserve(max(self._segment_bytes, need))
        except ReadOnly:
            spare = self._reserve(need + _RESERVE_BYTES)  # enough to serve what there is
        self._begin(
            spare,
            number=found.number + 1,
            first=first,
            chain=chain,
            previous=previous,
            previous_end=previous_end,
            copied=batches,
        )
        kept = [file.name for file in self._files]
        replaced = [name for name, _ in found.chain if name not in kept]
        for name in (*found.stale, *replaced):
            self._disk.unlink(name)
        self._disk.sync_names()


def _copies(log: Log, first: Index) -> Iterator[_Batch]:
    """Batches that make the log what it is from its segments before."""
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
        if size >= _COPY_BATCH_BYTES:
            yield frames, size, last, notes
            frames, size, notes = [], 0, 0
    if frames:
        yield frames, size, last, notes
