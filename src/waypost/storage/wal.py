"""The write-ahead log: every write of the core, durable in the order in which it was made.

``write`` puts any number of writes into one batch: one ``pwritev`` of the very frames that the core
made, one ``fdatasync``.  A batch is believed whole or not at all, so what recovery returns is
always the state after some whole number of writes (D3 in ``waypost.consensus.core``).

At every start the newest segment is copied into a new one: bytes that a failed fsync left in the
page cache become durable, or are gone, before anyone hears of them.

``write``, ``mark`` and ``drop_below`` are for one thread, the disk thread; ``prepare`` may run on
another at the same time.  After ``StorageFailed`` nothing more is accepted: the process must end.
"""

import os
from collections.abc import Callable, Sequence

from waypost.consensus.core import NO_SNAP, Boot, Nid, Seq, Snap, Write
from waypost.consensus.entry import Index
from waypost.consensus.epoch import Epoch
from waypost.storage.disk import Disk
from waypost.storage.records import (
    encode_hard,
    encode_hole,
    encode_left,
    encode_snapmark,
    encode_started,
    encode_truncate,
)
from waypost.storage.restart import Batch, Found, batches_of, epochs_of, find
from waypost.storage.segments import Basis, Segments

SEGMENT_BYTES = 64 << 20


def random_id() -> int:
    """Draw 64 bits that are not 0."""
    return int.from_bytes(os.urandom(8), "little") or 1


class Wal:
    """The log of one node."""

    def __init__(self, segments: Segments, found: Found) -> None:
        """Go on where recovery ended; ``open`` is the way to get here."""
        log = found.log
        self.notes = found.notes
        """What recovery found odd, for the node to tell."""
        self._segments = segments
        self._last = log.last
        self._chain = log.chain_at(log.last)  # header checksum of the last entry, 0 if unknown
        self._hard = log.hard
        self._mark = log.mark
        self._epoch = found.boot.epoch
        self._left = found.boot.left
        self._durable_mark: Index = log.mark.index
        self._durable_seq: Seq = 0

    @classmethod
    def open(
        cls,
        disk: Disk,
        *,
        cluster: int,
        node: Nid,
        snap: Snap | None = None,
        snap_epoch: Epoch | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        has_peers: bool = False,
        accept_data_loss: bool = False,
        draw_id: Callable[[], int] = random_id,
    ) -> "tuple[Wal, Boot]":
        """Recover the log, and begin a new segment; nothing may be answered before this returns.

        ``snap`` is the newest snapshot that could be verified, ``snap_epoch`` the epoch that it
        came with.  With peers, damage is reported in
        the ``Boot``; a node alone refuses it with ``CorruptData``, unless ``accept_data_loss``
        gives up everything from the damage on.
        """
        segments = Segments(
            disk, cluster=cluster, node=node, segment_bytes=segment_bytes, draw_id=draw_id
        )
        try:
            found = find(
                disk,
                cluster=cluster,
                node=node,
                snap=snap or NO_SNAP,
                snap_epoch=snap_epoch,
                has_peers=has_peers,
                accept_data_loss=accept_data_loss,
            )
            _copy_newest(segments, found)
        except OSError as error:
            raise segments.failed("opening the log", error) from error
        return cls(segments, found), found.boot

    @property
    def durable_seq(self) -> Seq:
        """The highest ``Write.seq`` of this run that is durable, with all before it."""
        return self._durable_seq

    @property
    def needs_segment(self) -> bool:
        """Whether it is time for ``prepare``: half of the segment is used, and no other ready."""
        return self._segments.needs_spare

    def write(self, writes: Sequence[Write]) -> Seq:
        """Append writes as one batch, and sync it if one of them asks; return ``durable_seq``.

        Raises ``ReadOnly``, with nothing written, when the segment is full and the disk too.
        """
        segments = self._segments
        segments.check()
        frames: list[bytes] = []
        last, chain, hard, mark = self._last, self._chain, self._hard, self._mark
        epoch, left = self._epoch, self._left
        entries = 0
        sync = False
        for write in writes:
            if write.left is not None:
                left = write.left
                frames.append(encode_left(left))
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
            if write.epoch is not None:
                epoch = write.epoch
                frames.append(encode_started(epoch))
                if left is not None and left.number <= epoch.number:
                    left = None
            if write.hard is not None:
                hard = write.hard
                frames.append(encode_hard(hard))
            sync = sync or write.sync

        batch = Batch(frames, sum(map(len, frames)), last, len(frames) - entries)
        try:
            if not segments.has_room(batch.padded_bytes):
                basis = Basis(self._last + 1, self._chain, self._hard, self._mark)
                repeated = epochs_of(self._epoch, self._left, self._last)
                segments.rotate(batch.padded_bytes, basis, repeated)
            segments.append(batch)
            if sync:
                segments.sync()
        except OSError as error:
            raise segments.failed(f"writing {segments.name}", error) from error
        self._last, self._chain, self._hard, self._mark = last, chain, hard, mark
        self._epoch, self._left = epoch, left
        if sync:
            self._durable_seq = writes[-1].seq
            self._durable_mark = mark.index
        return self._durable_seq

    def mark(self) -> None:
        """Note how far the log is durable, unsynced; for a log that has been idle for a while.

        What stands before that mark can never again be taken for a torn tail.
        """
        segments = self._segments
        segments.check()
        if segments.needs_mark:
            try:
                segments.append(Batch([], 0, self._last, 0))
            except OSError as error:
                raise segments.failed(f"writing {segments.name}", error) from error

    def prepare(self) -> None:
        """Reserve the next segment.  Raises ``ReadOnly`` while the disk is full; try later."""
        self._segments.prepare()

    def drop_below(self, index: Index) -> None:
        """Delete the segments of which every entry is at or below ``index``.

        Only when a write with a snapshot at or above ``index`` is durable; pass
        ``SnapshotStore.floor`` to keep what an older snapshot needs.
        """
        segments = self._segments
        segments.check()
        assert index <= self._durable_mark, (
            f"no snapshot at {index} is marked durably, only at {self._durable_mark}"
        )
        firsts = [head.first for _, head in segments.sealed[1:]] + [segments.first]
        count = 0
        while count < len(segments.sealed) and firsts[count] <= index + 1:
            count += 1
        if count:
            try:
                segments.drop_sealed(count)
            except OSError as error:
                raise segments.failed("deleting old segments", error) from error

    def close(self) -> None:
        """Give the files back; the log stays as it is."""
        self._segments.close()


def _copy_newest(segments: Segments, found: Found) -> None:
    """Begin a segment with what the newest one held, then delete what it replaces."""
    log = found.log
    if log.is_restarted or not found.chain:
        first, chain, previous, previous_end = log.first, log.chain_at(log.first - 1), 0, 0
    else:
        segments.sealed = list(found.chain[:-1])
        head = found.chain[-1][1]
        first, chain = head.first, head.chain
        previous, previous_end = head.previous, head.previous_end
    segments.begin(
        Basis(first, chain, log.hard, log.mark),
        number=found.number + 1,
        previous=previous,
        previous_end=previous_end,
        batches=[
            *epochs_of(found.boot.epoch, found.boot.left, first - 1),
            *batches_of(log, first),
        ],
    )
    segments.delete((*found.stale, *(name for name, _ in found.chain[len(segments.sealed) :])))
