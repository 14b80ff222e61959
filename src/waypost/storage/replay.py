"""The log as its frames leave it, read one batch after the other, damaged ones among them.

Always true of a ``Log``: its entries have no gap and begin at ``first``; an entry that was durable
here and cannot be read any more is in ``faulty`` and never silently gone; and an entry that a lost
frame may have replaced is not trusted.  Two things prove that nothing was replaced: the next whole
batch header counts the notes (the frames that are no entries) and none is missing; or the ``prev``
of the next entry equals the header checksum of the one before.

Pure, and without an opinion on what may be cut: ``recovery`` decides that.
"""

from collections.abc import Sequence

import msgspec

from waypost.consensus.core import NO_BALLOT, NO_SNAP, Entry, Hard, Index, Snap
from waypost.consensus.entry import HEADER_BYTES
from waypost.consensus.epoch import Epoch
from waypost.storage.heads import SegmentHead
from waypost.storage.records import (
    KIND_EPOCH,
    KIND_LEFT,
    BatchHeader,
    Frame,
    Gap,
    Hole,
    Left,
    Started,
    Truncate,
)


class Damage(msgspec.Struct, frozen=True):
    """Something that should not be so, and where."""

    file: str
    offset: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}: offset {self.offset}: {self.what}"


class _Replaced(msgspec.Struct, frozen=True):
    """Frames were lost: entries after ``commit`` and up to ``last`` may have been replaced."""

    commit: Index
    last: Index
    where: Damage


class Log:
    """See the module; ``hard`` and ``mark`` are the newest promises and snapshot mark read."""

    def __init__(self) -> None:
        self.first: Index = 1
        self.entries: list[Entry] = []
        self.faulty: dict[Index, Damage] = {}
        self.hard = Hard()
        self.mark = NO_SNAP
        self.epoch: Epoch | None = None
        self.left: Epoch | None = None
        self.suspicion: Damage | None = None
        """Why promises or acknowledged writes may be missing."""
        self.notes: list[Damage] = []
        """All that was not as it should be, also where it cost nothing."""
        self.low: Index = 1
        """Lowest index that the newest segment changed."""
        self.is_restarted = False
        """Whether the newest segment began the log anew, so that no older one matters."""
        self._chain = 0  # header checksum of the entry before first; 0 if unknown
        self._notes_seen = 0  # in the newest segment
        self._lost_bytes = 0  # unreadable since the log's last index was known for certain
        self._lost_at: Damage | None = None  # the last of them
        self._replaced: _Replaced | None = None
        self._promises_lost: Damage | None = None  # in frames of which nothing is known
        self._promises_rotten: Damage | None = None  # in a frame whose payload is unreadable
        self._epoch_lost: Damage | None = None  # likewise: a newer one may have been started
        self._epoch_rotten: Damage | None = None

    @property
    def last(self) -> Index:
        """Index of the last entry."""
        return self.first - 1 + len(self.entries)

    @property
    def _epoch_number(self) -> int:
        return self.epoch.number if self.epoch is not None else 1

    def chain_at(self, index: Index) -> int:
        """Header checksum of the entry at ``index``, 0 if unknown."""
        if index < self.first:
            return self._chain if index == self.first - 1 else 0
        entry = self.entries[index - self.first]
        return entry.chain if entry.frame else 0

    def begin(self, file: str, head: SegmentHead, *, is_oldest: bool) -> None:
        """Go on with another segment; its head repeats what was true up to there."""
        if is_oldest:
            self._restart(head.first, head.chain)
        else:
            self._settle(head.first - 1, Damage(file, 0, "entries before this segment are lost"))
            if head.chain and head.chain == self.chain_at(self.last):
                self._replaced = None
            self._distrust()
        self._lost_bytes = self._notes_seen = 0
        self.hard = head.hard
        self.mark = head.snap
        self._promises_lost = self._promises_rotten = None
        self._epoch_lost = self._epoch_rotten = None
        self.low = self.last + 1
        self.is_restarted = False

    def apply(
        self,
        parts: Sequence[Frame | Gap],
        header: BatchHeader | None,
        where: Damage,
        *,
        is_damaged: bool,
    ) -> None:
        """Take over what was found in a batch; ``header`` is None if that is unreadable too."""
        if is_damaged:
            self.notes.append(where)
        self._notes_seen += sum(isinstance(part, Frame) and part.is_note for part in parts)
        has_all_notes = header is not None and header.notes == self._notes_seen
        if has_all_notes:
            self._replaced = self._promises_lost = self._epoch_lost = None
        for part in parts:
            if isinstance(part, Frame):
                self._take(part, where)
                continue
            self._lost_bytes += part.end - part.offset
            self._lost_at = where
            if not has_all_notes:
                self._promises_lost = self._epoch_lost = where
                self._replaced = self._replaced or self._doubt_above_commit(self.last, where)
        if header is not None:
            self._settle(header.last, where)
            self._lost_bytes = 0

    def finish(self) -> None:
        """Every frame is read: what is still in doubt stays so."""
        self._distrust()
        lost = self._promises_lost or self._promises_rotten
        if lost is not None and self.suspicion is None:
            self.suspicion = Damage(lost.file, lost.offset, f"promises may be lost: {lost.what}")
        lost = self._epoch_lost or self._epoch_rotten
        if lost is None and self.hard.promised.epoch > self._epoch_number:
            lost = Damage("wal-*.log", 0, f"promises are of epoch {self.hard.promised.epoch}")
        if lost is not None and self.suspicion is None:
            self.suspicion = Damage(lost.file, lost.offset, f"an epoch may be lost: {lost.what}")

    def _take(self, frame: Frame, where: Damage) -> None:
        match frame.record:
            case Entry() as entry:
                self._put(entry, frame.header.prev, where)
                if not frame.is_whole:
                    self.faulty[entry.index] = where
            case Hole(index):
                self._put(_hole(index), 0, where)
                self.faulty[index] = where
            case Truncate(start):
                self._truncate(start)
            case Snap() as snap:
                self.mark = snap
                if snap.index > self.last:
                    self._restart(snap.index + 1, snap.chain)
            case Hard() as hard:
                self.hard = hard
                if hard.promised.epoch <= self._epoch_number:
                    self._epoch_lost = None  # a member's promises are of the epoch it started
                self._promises_lost = self._promises_rotten = None
            case Started(epoch):
                self.epoch = epoch
                self._epoch_lost = self._epoch_rotten = None
            case Left(epoch):
                self.left = epoch
            case None if frame.header.kind == KIND_EPOCH:
                self._epoch_rotten = where
            case None if frame.header.kind == KIND_LEFT:
                pass  # only a detour: some member of that epoch will tell again
            case None:
                self._promises_rotten = where

    def _put(self, entry: Entry, prev: int, where: Damage) -> None:
        index = entry.index
        self._settle(index - 1, where)
        known = self.chain_at(index - 1)
        if known and prev == known:
            self._replaced = None
        elif known and entry.frame and self._replaced is None:
            what = f"entry {index} does not follow the one before it"
            where = Damage(where.file, where.offset, what)
            self._replaced = self._doubt_above_commit(index - 1, where)
            self.notes.append(where)
        self._distrust()
        self.entries.append(entry)

    def _settle(self, last: Index, where: Damage) -> None:
        """Let the log end at ``last``: do what the frames that said so would have done."""
        if self.last > last:
            self._truncate(last + 1)
        missing = last - self.last
        if missing > self._lost_bytes // HEADER_BYTES:
            # More than the lost bytes can have held: the mark of a newer snapshot was among them.
            self._restart(last + 1, 0)
            return
        for index in range(self.last + 1, last + 1):
            self.entries.append(_hole(index))
            self.faulty[index] = self._lost_at or where

    def _doubt_above_commit(self, last: Index, where: Damage) -> _Replaced:
        """Frames are lost; what was committed before them cannot have been replaced by them."""
        return _Replaced(max(self.hard.commit, self.mark.index), last, where)

    def _distrust(self) -> None:
        """Nothing proves that the entries in question were not replaced."""
        if self._replaced is None:
            return
        commit, last, where = self._replaced.commit, self._replaced.last, self._replaced.where
        for index in range(max(commit + 1, self.first), min(last, self.last) + 1):
            self.entries[index - self.first] = _hole(index)
            self.faulty[index] = where
            self.low = min(self.low, index)
        self._replaced = None

    def _truncate(self, start: Index) -> None:
        if start > self.last:
            return
        if start < self.first:
            self._restart(start, 0)
            return
        del self.entries[start - self.first :]
        self.low = min(self.low, start)
        self._keep_faulty(0, start - 1)

    def _restart(self, first: Index, chain: int) -> None:
        self.first = first
        self.entries = []
        self.faulty = {}
        self.low = first
        self.is_restarted = True
        self._chain = chain

    def _keep_faulty(self, first: Index, last: Index) -> None:
        if self.faulty:
            self.faulty = {i: why for i, why in self.faulty.items() if first <= i <= last}

    def cut(self, start: Index) -> None:
        """Give up the log from ``start`` on, and every doubt with it."""
        self._truncate(start)
        self.suspicion = None

    def restart_after(self, snap: Snap) -> None:
        """Begin the log anew behind a snapshot."""
        self._restart(snap.index + 1, snap.chain)


def _hole(index: Index) -> Entry:
    return Entry(index, NO_BALLOT, 0, b"")
