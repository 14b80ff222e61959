"""Keeps those up to date who have no core: they ask once, and are told as the log moves.

One ``Fetched`` at a time is under way to each asker; its next ``Fetch`` says what arrived, so a
lost or doubled message costs a round trip and nothing else.  Whoever is not heard any more is
forgotten.
"""

import msgspec

from waypost.consensus.core import FOREVER, Index, Nid, Ns
from waypost.replica.handover import Handover
from waypost.replica.outbox import Outbox
from waypost.replica.peer_messages import Fetch, Fetched

FETCHED_BYTES_MAX = 1 << 20
FORGOTTEN_AFTER_ELECTIONS = 20


class Asker(msgspec.Struct):
    """Somebody without a core."""

    commit: Index
    """It holds everything up to here."""
    echo: Ns
    number: int
    """Of the newest epoch that it knew of: what it says of itself was true by then."""
    has_voted: bool
    heard: Ns
    due: Ns
    """It is told by then that nothing is new."""
    is_answered: bool = False
    """An answer is under way: the next is due when it asks again."""
    snapshot: Index = 0
    """A snapshot at this index is on its way to it."""


class Feeding:
    """The askers of one node."""

    def __init__(self, log: Handover, outbox: Outbox, heartbeat: Ns, election: Ns) -> None:
        self._log = log
        self._outbox = outbox
        self._heartbeat = heartbeat
        self._patience = FORGOTTEN_AFTER_ELECTIONS * election
        self._fed: Index = 0
        self.askers: dict[Nid, Asker] = {}

    @property
    def deadline(self) -> Ns:
        """When the next of them is to be told."""
        askers = self.askers
        return min([asker.due for asker in askers.values()]) if askers else FOREVER

    @property
    def is_due(self) -> bool:
        """Whether the log has moved, and somebody wants to know."""
        return self._fed != self._log.handed and bool(self.askers)

    def asked(self, now: Ns, nid: Nid, fetch: Fetch) -> None:
        """A ``Fetch`` came; ``feed`` answers it, now or later."""
        asker = self.askers.get(nid)
        due = now + self._heartbeat
        if asker is None:
            self.askers[nid] = Asker(
                fetch.commit, fetch.sent, fetch.number, fetch.has_voted, now, due
            )
            return
        if fetch.number < asker.number:
            return  # overtaken by what it asked later
        asker.commit, asker.echo = fetch.commit, fetch.sent
        asker.number, asker.has_voted = fetch.number, fetch.has_voted
        asker.heard, asker.due, asker.is_answered = now, due, False
        if fetch.commit >= asker.snapshot:
            asker.snapshot = 0

    def feed(self, now: Ns, leader: Nid, fresh: Ns) -> None:
        """Tell them what is new, or that nothing is; ``leader`` and ``fresh`` are of this node."""
        log = self._log
        self._fed = committed = log.handed
        compacted = log.snap.index
        for nid, asker in list(self.askers.items()):
            if now - asker.heard > self._patience and not asker.snapshot:
                del self.askers[nid]
                continue
            if asker.commit < compacted and not asker.snapshot:
                asker.snapshot = compacted
                self._outbox.send_snapshot.append((nid, compacted))
            can_take = compacted <= asker.commit < committed and not asker.is_answered
            if can_take or now >= asker.due:
                asker.is_answered = True
                asker.due = FOREVER  # until it asks again
                self._outbox.say(nid, self._answer(now, asker, leader, fresh))

    def _answer(self, now: Ns, asker: Asker, leader: Nid, fresh: Ns) -> Fetched:
        log, known = self._log, self._log.known
        frames: tuple[bytes, ...] = ()
        if log.snap.index <= asker.commit < log.handed:
            frames = self._frames_after(asker.commit)
        return Fetched(
            lineage=known.lineage,
            number=known.number,
            after=asker.commit,
            frames=frames,
            commit=log.handed,
            leader=leader,
            echo=asker.echo,
            age=0 if fresh == FOREVER else now - fresh if fresh else -1,
            released=known.is_released,
        )

    def _frames_after(self, commit: Index) -> tuple[bytes, ...]:
        """As many as one message takes, at least one."""
        frames: list[bytes] = []
        size = 0
        for index in range(commit + 1, self._log.handed + 1):
            frame = self._log.slice(index, index)[0].frame
            size += len(frame)
            if frames and size > FETCHED_BYTES_MAX:
                break
            frames.append(frame)
        return tuple(frames)

    def sent(self, nid: Nid, *, ok: bool) -> bool:
        """What came of a snapshot; False if it was not one of ours."""
        asker = self.askers.get(nid)
        if asker is None or not asker.snapshot:
            return False
        if ok:
            asker.commit = max(asker.commit, asker.snapshot)
        asker.snapshot = 0  # if it lost what arrived, it will ask again
        return True
