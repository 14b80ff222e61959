"""The files of the log: older ones sealed, one that is written to, and one prepared.

A segment's space is reserved before it is used, so that a full disk shows while the next one is
prepared, and never in the middle of a batch.  A segment gets its name only when its head is
durable, and nothing is written behind the head before the name is.

Always true: ``durable_end <= end <= size``; what is behind ``end`` are zeros.  After
``StorageFailed`` nothing more is accepted: the process must end.

Knows batches and not what is in them; ``wal`` knows the log.
"""

import errno
import threading
from collections.abc import Callable, Iterable, Sequence

import msgspec

from waypost.consensus.core import Hard, Index, Nid, Snap
from waypost.errors import ReadOnly, StorageFailed
from waypost.storage.disk import Disk, File
from waypost.storage.heads import SegmentHead, encode_head
from waypost.storage.records import (
    BATCH_HEADER_BYTES,
    BODY_START,
    FILLER,
    SECTOR,
    encode_batch_header,
    frames_crc,
    padded,
)
from waypost.storage.restart import Batch, segment_name

_ZEROS = memoryview(bytes(1 << 20))
_RESERVE_BYTES = 64 << 10
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Basis(msgspec.Struct, frozen=True, gc=False):
    """What the log is where a segment begins."""

    first: Index
    chain: int
    hard: Hard
    mark: Snap


class _Spare(msgspec.Struct, frozen=True, gc=False):
    """A segment that has its space and no head yet."""

    name: str
    file: File
    size: int


class Segments:
    """One thread writes; ``prepare`` may run on another at the same time."""

    def __init__(
        self,
        disk: Disk,
        *,
        cluster: int,
        node: Nid,
        segment_bytes: int,
        draw_id: Callable[[], int],
    ) -> None:
        assert segment_bytes > BODY_START
        self._disk = disk
        self._cluster = cluster
        self._node = node
        self._segment_bytes = padded(segment_bytes)
        self._draw_id = draw_id
        self._failure: str | None = None
        self._spare: _Spare | None = None
        self._preparing = threading.Lock()
        self.sealed: list[tuple[str, SegmentHead]] = []  # oldest first
        # The one that is written to.
        self.name = ""
        self._head: SegmentHead
        self._file: File = -1
        self._size = 0
        self._notes = 0  # frames in it that are no entries
        self._told_end = BODY_START  # the highest durable_end that a header tells
        self.end = BODY_START
        self.durable_end = BODY_START

    def check(self) -> None:
        """Raise ``StorageFailed`` if the disk has failed before."""
        if self._failure is not None:
            raise StorageFailed(self._failure)

    def failed(self, doing: str, error: OSError) -> StorageFailed:
        """Accept nothing any more; the error to raise."""
        self._failure = (
            f"disk: {doing} failed: {error}: this process must end; what is on the disk is checked "
            "at the next start"
        )
        return StorageFailed(self._failure)

    @property
    def first(self) -> Index:
        """Index after the last entry before the segment that is written to."""
        return self._head.first

    @property
    def needs_spare(self) -> bool:
        """Whether half of the segment is used, and no other ready."""
        return self._spare is None and 2 * self.end >= self._size

    @property
    def needs_mark(self) -> bool:
        """Whether everything is durable, and no header says so yet."""
        return self._told_end < self.durable_end == self.end < self._size

    def has_room(self, need: int) -> bool:
        """Whether a batch of so many bytes, padded, fits behind the last one."""
        return self.end + need <= self._size

    def append(self, batch: Batch) -> None:
        """Write one batch behind the last one, unsynced."""
        offset, body_bytes, notes = self.end, batch.body_bytes, self._notes + batch.notes
        frames = batch.frames
        header = encode_batch_header(
            self._head.segment,
            offset,
            body_bytes,
            len(frames),
            self.durable_end,
            batch.last,
            frames_crc(frames),
            notes,
        )
        filler = FILLER[: -(BATCH_HEADER_BYTES + body_bytes) % SECTOR]
        self._disk.write(self._file, (header, *frames, filler), offset)
        self.end = padded(offset + BATCH_HEADER_BYTES + body_bytes)
        self._told_end = self.durable_end
        self._notes = notes

    def sync(self) -> None:
        """Make every batch so far durable."""
        self._disk.sync(self._file)
        self.durable_end = self.end

    def prepare(self) -> None:
        """Have a spare ready, filled with zeros: a sync then has no extents to convert."""
        with self._preparing:
            self.check()
            if self._spare is None:
                self._spare = self._reserve(self._segment_bytes, is_filled=True)

    def rotate(self, need: int, basis: Basis, batches: Sequence[Batch]) -> None:
        """Seal this segment and begin the next, with ``batches`` and room for ``need`` more.

        On ``ReadOnly`` nothing has happened.
        """
        with self._preparing:
            need += sum(batch.padded_bytes for batch in batches)
            spare = self._spare
            if spare is not None and spare.size >= BODY_START + need:
                self._spare = None
            else:
                spare = self._reserve(max(self._segment_bytes, BODY_START + need))
        if self.durable_end < self.end:
            self.sync()
        old, head = (self.name, self._head), self._head
        self._begin(spare, basis, head.number + 1, head.number, self.end, batches)
        self.sealed.append(old)

    def begin(
        self,
        basis: Basis,
        *,
        number: int,
        previous: int,
        previous_end: int,
        batches: Sequence[Batch],
    ) -> None:
        """Begin the first segment of this run, with ``batches`` in it."""
        need = BODY_START + sum(batch.padded_bytes for batch in batches)
        try:
            spare = self._reserve(max(self._segment_bytes, need))
        except ReadOnly:
            spare = self._reserve(need + _RESERVE_BYTES)  # enough to serve what there is
        self._begin(spare, basis, number, previous, previous_end, batches)

    def _begin(
        self,
        spare: _Spare,
        basis: Basis,
        number: int,
        previous: int,
        previous_end: int,
        batches: Sequence[Batch],
    ) -> None:
        old = self._file
        self._file, self._size, self._notes = spare.file, spare.size, 0
        self.end = self.durable_end = BODY_START
        self._head = SegmentHead(
            cluster=self._cluster,
            node=self._node,
            number=number,
            segment=self._draw_id(),
            first=basis.first,
            chain=basis.chain,
            hard=basis.hard,
            snap=basis.mark,
            previous=previous,
            previous_end=previous_end,
            durable_end=BODY_START + sum(batch.padded_bytes for batch in batches),
        )
        for batch in batches:
            self.append(batch)
        assert self.end == self._head.durable_end
        self._disk.write(self._file, (encode_head(self._head),), 0)
        self.sync()
        self._told_end = self.end
        self.name = segment_name(number)
        self._disk.rename(spare.name, self.name)
        self._disk.sync_names()
        if old >= 0:
            self._disk.close(old)

    def _reserve(self, size: int, *, is_filled: bool = False) -> _Spare:
        name = f"wal-{self._draw_id():016x}.tmp"
        size = padded(size)
        file: File = -1
        try:
            file = self._disk.create(name, size)
            self._disk.sync(file)
            for offset in range(0, size if is_filled else 0, len(_ZEROS)):
                self._disk.write(file, (_ZEROS[: size - offset],), offset)
                self._disk.sync(file)  # in pieces that no sync of the log has to wait for long
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise self.failed("preparing a segment", error) from error
            if file >= 0:
                self._disk.close(file)
                self._disk.unlink(name)
            raise ReadOnly(
                f"disk full: no room for a log segment of {size} bytes: free some space; writes "
                "are accepted again as soon as it is there"
            ) from error
        return _Spare(name, file, size)

    def drop_sealed(self, count: int) -> None:
        """Delete the oldest segments."""
        self.delete(name for name, _ in self.sealed[:count])
        del self.sealed[:count]

    def delete(self, names: Iterable[str]) -> None:
        """Delete segments that hold nothing any more."""
        for name in names:
            self._disk.unlink(name)
        self._disk.sync_names()

    def close(self) -> None:
        """Give the files back; the log stays as it is."""
        self._disk.close(self._file)
        if self._spare is not None:
            self._disk.close(self._spare.file)
            self._spare = None
