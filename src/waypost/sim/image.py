"""A log as some whole number of writes leaves it: what a disk holds, or is about to hold.

The oracle compares every message with the image that is durable at its sender.
"""

from waypost.consensus.core import NO_BALLOT, NO_SNAP, Boot, Entry, Hard, Index, Snap, Write
from waypost.consensus.epoch import Epoch

UNKNOWN_CHAIN = -1


class Image:
    """See the module.

    Invariant: ``entries`` continue ``snap`` without a gap.
    """

    __slots__ = ("entries", "epoch", "faulty", "hard", "left", "snap")

    def __init__(self) -> None:
        self.hard = Hard()
        self.snap = NO_SNAP
        self.entries: list[Entry] = []
        self.faulty: dict[Index, None] = {}
        self.epoch: Epoch | None = None
        self.left: Epoch | None = None

    @classmethod
    def of(cls, boot: Boot) -> "Image":
        """The image of what was found on a disk."""
        image = cls()
        image.hard, image.snap = boot.hard, boot.snap
        image.entries = list(boot.entries)
        image.faulty = dict.fromkeys(boot.faulty)
        image.epoch, image.left = boot.epoch, boot.left
        return image

    def copy(self) -> "Image":
        """Another one, that goes its own way from here."""
        other = Image()
        other.hard, other.snap = self.hard, self.snap
        other.entries, other.faulty = list(self.entries), dict(self.faulty)
        other.epoch, other.left = self.epoch, self.left
        return other

    @property
    def last(self) -> Index:
        """Index of the last entry."""
        return self.snap.index + len(self.entries)

    def chain_at(self, index: Index) -> int:
        """Header checksum of an entry, which stands for the whole log up to it."""
        at = index - self.snap.index - 1
        if 0 <= at < len(self.entries):
            entry = self.entries[at]
            return entry.chain if entry.frame else UNKNOWN_CHAIN
        return self.snap.chain if at == -1 else UNKNOWN_CHAIN

    def apply(self, write: Write) -> None:
        """What a write changes, in the order that ``Write`` tells."""
        if write.left is not None:
            self.left = write.left
        if write.truncate is not None:
            self._truncate(write.truncate)
        if write.entries:
            first = write.entries[0].index
            assert first == self.last + 1, f"entry {first} cannot stand at {self.last + 1}"
            self.entries.extend(write.entries)
        if write.snap is not None:
            self._drop_to(write.snap)
        if write.epoch is not None:
            self.epoch = write.epoch
            if self.left is not None and self.left.number <= write.epoch.number:
                self.left = None
        if write.hard is not None:
            self.hard = write.hard

    def join(self, snap: Snap) -> None:
        """Recovery found a newer snapshot beside this log: go on behind it, as the WAL does."""
        if snap.index <= self.snap.index:
            return
        at = snap.index - self.snap.index - 1
        fits = at < len(self.entries) and self.entries[at].ballot in (snap.ballot, NO_BALLOT)
        if not fits:
            self.entries.clear()
        self._drop_to(snap)

    def boot(self) -> Boot:
        """What a node finds of it."""
        hard = self.hard
        commit = min(max(hard.commit, self.snap.index), self.last)
        return Boot(
            Hard(hard.promised, hard.accepted, commit, hard.suspect),
            self.snap,
            tuple(self.entries),
            tuple(sorted(self.faulty)),
            self.epoch,
            self.left,
        )

    def _truncate(self, start: Index) -> None:
        del self.entries[max(0, start - self.snap.index - 1) :]
        if self.faulty:
            self.faulty = {index: None for index in self.faulty if index < start}

    def _drop_to(self, snap: Snap) -> None:
        assert snap.index >= self.snap.index, f"a snapshot at {snap.index} after {self.snap.index}"
        del self.entries[: snap.index - self.snap.index]
        self.snap = snap
        if self.faulty:
            self.faulty = {index: None for index in self.faulty if index > snap.index}
