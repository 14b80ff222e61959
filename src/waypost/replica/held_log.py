"""The log at a node that has no core: what it holds while it only follows.

Always true: ``entries`` follow ``snap`` without a gap; everything up to ``commit`` is committed,
and what is above was taken over from a core that this node has left, so it may be replaced.
"""

from collections.abc import Sequence

from waypost.consensus.core import Entry, Hard, Index, Snap
from waypost.consensus.entry import (
    KIND_SEAL,
    NO_BALLOT,
    header_at,
    payload_is_whole,
)
from waypost.consensus.epoch import Epoch
from waypost.errors import CorruptData


class HeldLog:
    """See the module."""

    def __init__(
        self, snap: Snap, entries: Sequence[Entry], commit: Index, faulty: Sequence[Index] = ()
    ) -> None:
        self.snap = snap
        self.entries = list(entries)
        self._faulty: set[Index] = {index for index in faulty if index > snap.index}
        # What cannot be read cannot be applied: from there on it is fetched like anything else.
        self.commit = max(snap.index, min([commit, *(index - 1 for index in self._faulty)]))
        assert self.commit <= self.last, f"committed {self.commit}, and the log ends at {self.last}"

    @property
    def last(self) -> Index:
        """Index of the last entry."""
        return self.snap.index + len(self.entries)

    @property
    def faulty(self) -> tuple[Index, ...]:
        """Entries that cannot be read."""
        return tuple(sorted(self._faulty))

    def slice(self, first: Index, last: Index) -> Sequence[Entry]:
        """The entries from ``first`` to ``last``, both included."""
        begin = self.snap.index
        assert begin < first <= last + 1 <= self.last + 1, (
            f"entries {first} to {last} are outside {begin + 1} to {self.last}"
        )
        return self.entries[first - begin - 1 : last - begin]

    def at(self, index: Index) -> Snap:
        """The identity of a snapshot taken at ``index``."""
        if index == self.snap.index:
            return self.snap
        entry = self.slice(index, index)[0]
        return Snap(index, entry.ballot, entry.kind, entry.chain if entry.frame else 0)

    def holds_up_to(self, epoch: Epoch) -> bool:
        """Whether all that came before ``epoch`` is here, readable: by the Seal's identity."""
        seal = epoch.first - 1
        if seal <= self.snap.index:
            return True
        if seal > self.last or any(index <= seal for index in self._faulty):
            return False
        entry = self.entries[seal - self.snap.index - 1]
        return entry.ballot == epoch.seal_ballot and entry.kind == KIND_SEAL

    def take(self, entries: Sequence[Entry]) -> tuple[Index | None, tuple[Entry, ...]]:
        """Take committed entries over, the first of them right after ``commit``.

        Returns what is to be written: where to cut the log, if at all, and what to append.
        """
        self._check(entries)
        begin = self.snap.index
        cut: Index | None = None
        new: tuple[Entry, ...] = ()
        for position, entry in enumerate(entries):
            if entry.index <= self.last:
                own = self.entries[entry.index - begin - 1]
                if own.frame == entry.frame:
                    self._faulty.discard(entry.index)
                    continue
                cut = entry.index
                self.cut(cut)
            new = tuple(entries[position:])
            break
        self.entries += new
        self.commit = entries[-1].index
        return cut, new

    def _check(self, entries: Sequence[Entry]) -> None:
        """One committed log there is: whatever is fetched goes on from what is held."""
        index, chain = self.commit, self.at(self.commit).chain
        for entry in entries:
            header = header_at(entry.frame)
            assert header is not None, "entries come here parsed"
            if entry.index != index + 1 or (chain and header.prev != chain):
                raise CorruptData(
                    f"entry {entry.index} does not follow committed entry {index}: the log of the "
                    "node that sent it is not ours; stop that node and check its data directory"
                )
            index, chain = entry.index, header.crc

    def cut(self, start: Index) -> None:
        """Drop the log from ``start`` on."""
        assert start > self.commit, f"entry {start} is committed"
        del self.entries[start - self.snap.index - 1 :]
        self._faulty = {index for index in self._faulty if index < start}

    def install(self, snap: Snap) -> Index | None:
        """A snapshot is here that reaches further; returns where the log on disk is to be cut."""
        assert snap.index > self.commit, f"{snap.index} is committed here already"
        begin, first = self.snap.index, self.commit + 1
        cut = None
        if snap.index <= self.last:
            if self.entries[snap.index - begin - 1].ballot == snap.ballot:
                self._drop_up_to(snap)
                self.commit = snap.index
                return None
            cut = first
        elif first <= self.last:
            cut = first
        self.entries = []
        self._faulty.clear()
        self.snap, self.commit = snap, snap.index
        return cut

    def compact(self, snap: Snap) -> None:
        """Drop what a durable snapshot covers."""
        assert snap.index <= self.commit, f"a snapshot at {snap.index} of what is not committed"
        if snap.index > self.snap.index:
            self._drop_up_to(snap)

    def _drop_up_to(self, snap: Snap) -> None:
        del self.entries[: snap.index - self.snap.index]
        self._faulty = {index for index in self._faulty if index > snap.index}
        self.snap = snap

    def end_before(self, first: Index) -> Index | None:
        """Commit everything before ``first`` and drop the rest; returns where to cut on disk."""
        start = max(first, self.snap.index + 1)
        cut = start if self.last >= start else None
        if cut is not None:
            self.cut(cut)
        self.commit = self.last
        return cut

    def with_commit(self, hard: Hard) -> Hard:
        """What to remember beside an entry: the promises as they are, and the commit index."""
        return Hard(hard.promised, hard.accepted, self.commit, hard.suspect)


def count_before(entries: Sequence[Entry], epoch: Epoch | None, coming: Epoch | None) -> int:
    """How many of these belong before the next epoch, which is known or sealed among them."""
    for position, entry in enumerate(entries):
        if coming is not None:
            is_end = entry.index == coming.first - 1
        else:
            is_end = (
                epoch is not None and entry.kind == KIND_SEAL and entry.ballot.epoch == epoch.number
            )
        if is_end:
            return position + 1
    return len(entries)


def unreadable(entries: Sequence[Entry], above: Index) -> tuple[Index, ...]:
    """Entries above ``above`` whose payload is rotten or gone; those below have been applied."""
    return tuple(
        entry.index for entry in entries if entry.index > above and not _is_readable(entry)
    )


def _is_readable(entry: Entry) -> bool:
    header = header_at(entry.frame)
    return (
        header is not None and entry.ballot != NO_BALLOT and payload_is_whole(header, entry.frame)
    )
