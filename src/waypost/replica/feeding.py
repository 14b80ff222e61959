"""Keeps those up to date who have no core: they ask once, and are told as the log moves.

One ``Fetched`` at a time is under way to each asker; its next ``Fetch`` says what arrived, so a
lost or doubled message costs a round trip and nothing else.  Whoever is not heard any more is
forgotten.
"""

from collections.abc import Callable, Sequence

import msgspec

from waypost.consensus.core import FOREVER, Entry, Index, Nid, Ns

FETCHED_BYTES_MAX = 1 << 20
FORGOTTEN_AFTER_ELECTIONS = 20


class Subscriber(msgspec.Struct):
    """One asker."""

    commit: Index
    """It holds everything up to here."""
    echo: Ns
    has_voted: bool
    heard: Ns
    due: Ns
    """It is told by then that nothing is new."""
    is_answered: bool = False
    """An answer is under way: the next is due when that one is acknowledged."""
    snapshot: Index = 0
    """A snapshot at this index is on its way to it."""


class Feeding:
    """The askers of one node."""

    def __init__(self, heartbeat: Ns, election: Ns) -> None:
        self._heartbeat = heartbeat
        self._election = election
        self.askers: dict[Nid, Subscriber] = {}

    @property
    def deadline(self) -> Ns:
        """When the next of them is to be told."""
        return min((asker.due for asker in self.askers.values()), default=FOREVER)

    def asked(self, now: Ns, nid: Nid, commit: Index, echo: Ns, *, has_voted: bool) -> None:
        """A ``Fetch`` came; ``answers`` says what to do about it."""
        asker = self.askers.get(nid)
        due = now + self._heartbeat
        if asker is None:
            self.askers[nid] = Subscriber(commit, echo, has_voted, now, due)
            return
        asker.commit, asker.echo, asker.has_voted = commit, echo, has_voted
        asker.heard, asker.due, asker.is_answered = now, due, False
        if commit >= asker.snapshot:
            asker.snapshot = 0

    def answers(
        self, now: Ns, compacted: Index, committed: Index
    ) -> tuple[list[tuple[Nid, Subscriber]], list[tuple[Nid, Index]]]:
        """Who is to be told now, and who needs the snapshot at ``compacted`` instead."""
        told: list[tuple[Nid, Subscriber]] = []
        snapshots: list[tuple[Nid, Index]] = []
        for nid, asker in list(self.askers.items()):
            if now - asker.heard > FORGOTTEN_AFTER_ELECTIONS * self._election and (
                not asker.snapshot
            ):
                del self.askers[nid]
                continue
            is_behind = asker.commit < committed
            if is_behind and asker.commit < compacted and not asker.snapshot:
                asker.snapshot = compacted
                snapshots.append((nid, compacted))
            can_take = is_behind and asker.commit >= compacted and not asker.is_answered
            if can_take or now >= asker.due:
                asker.is_answered = True
                asker.due = FOREVER  # until it asks again
                told.append((nid, asker))
        return told, snapshots

    def sent(self, nid: Nid, *, ok: bool) -> bool:
        """What came of a snapshot; False if it was not one of ours."""
        asker = self.askers.get(nid)
        if asker is None or not asker.snapshot:
            return False
        if ok:
            asker.commit = max(asker.commit, asker.snapshot)
        asker.snapshot = 0  # if it lost what arrived, it will ask again
        return True


def cut_to_size(
    slice_of: Callable[[Index, Index], Sequence[Entry]], first: Index, last: Index
) -> tuple[bytes, ...]:
    """The frames from ``first`` on, at least one, as many as one message takes."""
    frames: list[bytes] = []
    size = 0
    for index in range(first, last + 1):
        frame = slice_of(index, index)[0].frame
        size += len(frame)
        if frames and size > FETCHED_BYTES_MAX:
            break
        frames.append(frame)
    return tuple(frames)
