"""The log in memory: the entries from ``base`` on, and the identity of the one at ``base``.

Always true: entries stand without a gap from ``base + 1`` to ``last``; ballots never decrease along
the log; and each entry's ``prev`` is the ``chain`` of the one before it, so two logs with the same
(index, ballot) anywhere are equal up to there ("Log Matching", Raft, figure 3; it holds for
Sequence Paxos too, where an entry keeps the ballot in which it was created).

An entry that rotted on disk stays in its place and in ``faulty`` until its bytes are back.

Knows nothing of what is durable (``journal``) or committed.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import attrgetter

from waypost.consensus.core import FOREVER, Snap
from waypost.consensus.entry import KIND_SEAL, NO_BALLOT, Ballot, Entry, Index
from waypost.errors import ProtocolViolation

_ballot_of = attrgetter("ballot")


class Log:
    """See the module; ``epoch`` is the one whose Seal matters."""

    __slots__ = (
        "_chain",
        "_entries",
        "_epoch",
        "base",
        "base_ballot",
        "faulty",
        "last",
        "seal",
    )

    def __init__(
        self, epoch: int, snap: Snap, entries: Sequence[Entry], faulty: Sequence[Index]
    ) -> None:
        self._epoch = epoch
        self._entries: list[Entry] = []
        self.faulty: list[Index] = []
        self.seal: Index = 0
        """Of this epoch's Seal, committed or not; 0 without one."""
        self.base: Index
        """The entry before the first one in memory."""
        self.base_ballot: Ballot
        self.restart(snap)
        self._entries += entries
        self.last += len(entries)
        self.faulty += sorted(faulty)
        self._look_for_seal(entries)

    @property
    def chain(self) -> int:
        """What the next entry's ``prev`` must be."""
        return self._entries[-1].chain if self._entries else self._chain

    @property
    def last_ballot(self) -> Ballot:
        """Of the last entry; ``NO_BALLOT`` where nothing of it is readable."""
        return self._entries[-1].ballot if self._entries else self.base_ballot

    @property
    def first_fault(self) -> Index:
        """The first entry of which the bytes are missing; ``FOREVER`` if all are here."""
        return self.faulty[0] if self.faulty else FOREVER

    def ballot_at(self, index: Index) -> Ballot:
        """Ballot of the entry at ``index``, or of what ``base`` stands for."""
        if index == self.base:
            return self.base_ballot
        assert self.base < index <= self.last, f"{index} is outside {self.base} to {self.last}"
        return self._entries[index - self.base - 1].ballot

    def at(self, index: Index) -> Entry:
        """The entry at ``index``."""
        assert self.base < index <= self.last, f"{index} is outside {self.base + 1} to {self.last}"
        return self._entries[index - self.base - 1]

    def between(self, first: Index, last: Index) -> list[Entry]:
        """The entries from ``first`` to ``last``, both included."""
        assert self.base < first <= last + 1 <= self.last + 1, (
            f"entries {first} to {last} are outside {self.base + 1} to {self.last}"
        )
        return self._entries[first - self.base - 1 : last - self.base]

    def holds(self, index: Index, ballot: Ballot) -> bool:
        """Whether this very entry stands here, so that the logs are equal up to it."""
        return self.base <= index <= self.last and self.ballot_at(index) == ballot

    def frames(self, first: Index, bytes_max: int) -> tuple[tuple[bytes, ...], int]:
        """As many frames from ``first`` on as ``bytes_max`` allows, at least one; their bytes."""
        entries = self._entries
        start = first - self.base - 1
        frames = [entries[start].frame]
        size = len(frames[0])
        for position in range(start + 1, len(entries)):
            frame = entries[position].frame
            if size + len(frame) > bytes_max:
                break
            frames.append(frame)
            size += len(frame)
        return tuple(frames), size

    def append(self, entry: Entry) -> None:
        """Add one entry at the end."""
        assert entry.index == self.last + 1, f"entry {entry.index} cannot stand at {self.last + 1}"
        self._entries.append(entry)
        self.last += 1
        if entry.kind == KIND_SEAL:
            self._look_for_seal((entry,))

    def put(self, entries: Sequence[Entry]) -> None:
        """Add entries of another log, in the place of whatever stands from the first of them on."""
        first = entries[0].index
        before = first - self.base - 2
        known = self._entries[before] if before >= 0 else None
        chain = known.chain if known else self._chain  # 0 where nothing of it is readable
        ballot = known.ballot if known else self.base_ballot
        for index, entry in enumerate(entries, first):
            if entry.index != index or (chain and entry.prev != chain) or entry.ballot < ballot:
                raise ProtocolViolation(
                    f"entry {entry.index} of ballot {entry.ballot} does not follow entry "
                    f"{index - 1} of ballot {ballot}: its sender's log is damaged"
                )
            chain, ballot = entry.chain, entry.ballot
        if first <= self.last:
            self.truncate(first)
        assert first == self.last + 1, f"entry {first} cannot stand at {self.last + 1}"
        self._entries += entries
        self.last += len(entries)
        self._look_for_seal(entries)

    def truncate(self, index: Index) -> None:
        """Drop the entries from ``index`` on."""
        assert index > self.base, f"{index} is not in the log after {self.base}"
        del self._entries[index - self.base - 1 :]
        self.last = index - 1
        del self.faulty[bisect_left(self.faulty, index) :]
        if self.seal >= index:
            self.seal = 0

    def drop(self, upto: Index) -> None:
        """Forget the entries up to ``upto``; a snapshot covers them."""
        if upto <= self.base:
            return
        entry = self.at(upto)
        del self._entries[: upto - self.base]
        self.base, self.base_ballot, self._chain = upto, entry.ballot, entry.chain
        del self.faulty[: bisect_right(self.faulty, upto)]

    def rebase(self, snap: Snap) -> None:
        """Forget the entries up to the snapshot's, whatever is left of them, and keep the rest."""
        del self._entries[: snap.index - self.base]
        self.base, self.base_ballot, self._chain = snap.index, snap.ballot, snap.chain
        del self.faulty[: bisect_right(self.faulty, snap.index)]

    def restart(self, snap: Snap) -> None:
        """Begin anew behind a snapshot."""
        self.base, self.base_ballot, self._chain = snap.index, snap.ballot, snap.chain
        self.last = snap.index
        self._entries.clear()
        self.faulty.clear()
        is_seal = snap.kind == KIND_SEAL and snap.ballot.epoch == self._epoch
        self.seal = snap.index if is_seal else 0

    def bytes_behind(self, upto: Index, bytes_max: int) -> Index:
        """The lowest index from which up to ``upto`` there are at most ``bytes_max`` bytes."""
        size = 0
        for entry in reversed(self._entries[: upto - self.base]):
            size += len(entry.frame)
            if size > bytes_max:
                return entry.index + 1
        return self.base + 1

    def hint(self, prev: Index, ballot: Ballot) -> Index:
        """Up to where another log, with an entry of ``ballot`` at ``prev``, may equal this one.

        Ballots never decrease along a log, so whatever is later than ``ballot`` here is not there
        ("conflict by term": Raft, end of section 5.3; etcd-io/raft ``findConflictByTerm``).
        """
        upto = min(prev, self.last)
        if upto <= self.base:
            return upto
        return self.base + bisect_right(self._entries, ballot, hi=upto - self.base, key=_ballot_of)

    def may_be(self, index: Index, chain: int) -> bool:
        """Whether the faulty entry at ``index`` may be the one with this header checksum.

        Where nothing proves the contrary, not its header and not the next entry, it is taken for
        that, and what follows it is kept: to deny what was durable here would be worse than to
        doubt it.
        """
        ours = self.at(index)
        if not is_unknown(ours):
            return ours.chain == chain
        after = self.at(index + 1) if index < self.last else None
        return after is None or is_unknown(after) or after.prev == chain

    def repair(self, entry: Entry) -> bool:
        """Put back an entry that rotted, if it is proved to be that very one."""
        index = entry.index
        position = bisect_left(self.faulty, index)
        if position == len(self.faulty) or self.faulty[position] != index:
            return False
        ours = self.at(index)
        if ours.frame:
            is_proved = ours.chain == entry.chain
        else:
            after = self.at(index + 1) if index < self.last else None
            is_proved = after is not None and bool(after.frame) and after.prev == entry.chain
        if is_proved:
            self.replace(entry)
        return is_proved

    def replace(self, entry: Entry) -> None:
        """Put an entry in the place of a faulty one."""
        self.faulty.remove(entry.index)
        self._entries[entry.index - self.base - 1] = entry
        if entry.kind == KIND_SEAL:
            self._look_for_seal((entry,))

    def _look_for_seal(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.kind == KIND_SEAL and entry.ballot.epoch == self._epoch:
                self.seal = self.seal or entry.index
                return


def is_unknown(entry: Entry) -> bool:
    """Whether not even the header of this entry is left."""
    return entry.ballot == NO_BALLOT
