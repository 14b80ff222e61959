"""What carries a core in the tests of this folder: a disk of whole writes, and a node around both.

A ``Disk`` is the state after some prefix of the writes that it was given (D3).  A ``Host`` drives a
core as ``core.Core`` asks for, asserts what the core promises at every step, and lets somebody else
decide what is delivered, what becomes durable, and when.
"""

import zlib
from collections.abc import Callable

import msgspec

from waypost.consensus.core import (
    KIND_SEAL,
    NO_BALLOT,
    NO_SNAP,
    Boot,
    Core,
    Done,
    Entry,
    Hard,
    Message,
    Ready,
    Snap,
    Write,
)
from waypost.consensus.epoch import Epoch
from waypost.consensus.messages import Ack, CoreMessage, Prepare, Promise
from waypost.consensus.paxos import PaxosCore
from waypost.consensus.raft import RaftCore
from waypost.consensus.settings import Settings

ENGINES: dict[str, type[RaftCore] | type[PaxosCore]] = {"raft": RaftCore, "paxos": PaxosCore}

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(CoreMessage)


def over_the_wire(message: Message) -> Message:
    """What the other side reads."""
    return _decoder.decode(_encoder.encode(message))


class Disk:
    """The log as recovery would return it."""

    def __init__(self, hard: Hard) -> None:
        self.hard = hard
        self.snap = NO_SNAP
        self.first = 1
        self.entries: list[Entry] = []
        self.rotten: set[int] = set()

    @property
    def last(self) -> int:
        return self.first - 1 + len(self.entries)

    def ballot_at(self, index: int) -> object:
        if index == self.snap.index:
            return self.snap.ballot
        if index < self.first:
            return None
        return self.entries[index - self.first].ballot if index <= self.last else None

    def holds(self, index: int) -> bool:
        """Whether a log that reaches ``index`` is here, in a snapshot or in entries."""
        return index <= self.snap.index or index <= self.last

    def write(self, write: Write) -> None:
        if write.truncate is not None:
            assert self.first <= write.truncate <= self.last + 1, (write.truncate, self.last)
            del self.entries[write.truncate - self.first :]
            self.rotten = {index for index in self.rotten if index < write.truncate}
        for entry in write.entries:
            assert entry.index == self.last + 1, (entry.index, self.last)
            if self.entries and self.last not in self.rotten and entry.frame:
                assert entry.prev == self.entries[-1].chain
            self.entries.append(entry)
        if write.snap is not None:
            self.snap = write.snap
            if write.snap.index > self.last:
                self.first = write.snap.index + 1
                self.entries = []
                self.rotten = set()
        if write.hard is not None:
            assert write.hard.promised >= self.hard.promised
            assert write.hard.accepted >= self.hard.accepted
            self.hard = write.hard

    def boot(self, epoch: Epoch) -> Boot:
        entries = [
            _rotten(entry) if entry.index in self.rotten else entry
            for entry in self.entries[self.snap.index + 1 - self.first :]
        ]
        faulty = tuple(sorted(index for index in self.rotten if index > self.snap.index))
        return Boot(self.hard, self.snap, tuple(entries), faulty, epoch)


def _rotten(entry: Entry) -> Entry:
    """What recovery finds of an entry; of every third one, not even the header."""
    if entry.index % 3 == 0:
        return Entry(entry.index, NO_BALLOT, 0, b"")
    frame = entry.frame[:48] + bytes(len(entry.frame) - 48)
    return Entry(entry.index, entry.ballot, entry.kind, frame)


class Host:
    """One node: a core, its disk, and its state machine, which is a checksum of what it applied."""

    def __init__(
        self,
        nid: int,
        epoch: Epoch,
        engine: str,
        settings: Settings,
        draw: Callable[[], float],
        hard: Hard,
    ) -> None:
        self.nid = nid
        self.epoch = epoch
        self.engine = engine
        self.settings = settings
        self.draw = draw
        self.disk = Disk(hard)
        self.core: Core | None = None
        self.flying: list[Write] = []
        self.snapshots: dict[int, int] = {0: 0}  # index: state
        self.applied = 0
        self.state = 0
        self.commit = 0
        self.seq = 0

    def boot(self, now: int, *, may_lead_first: bool = False) -> None:
        """Start, with what is on disk."""
        assert self.core is None
        boot = self.disk.boot(self.epoch)
        self.core = ENGINES[self.engine](
            self.nid,
            self.epoch,
            boot,
            now=now,
            may_lead_first=may_lead_first,
            settings=self.settings,
            draw=self.draw,
        )
        self.applied = boot.snap.index
        self.state = self.snapshots[boot.snap.index]
        self.commit = 0
        self.seq = 0

    def crash(self, kept: int) -> None:
        """Stop; of the writes under way, the first ``kept`` reached the disk."""
        for write in self.flying[:kept]:
            self.disk.write(write)
        self.flying = []
        self.core = None

    def persist(self, now: int, count: int) -> None:
        """The first ``count`` writes under way became durable."""
        assert self.core is not None
        done, self.flying = self.flying[:count], self.flying[count:]
        for write in done:
            self.disk.write(write)
        self.core.persisted(now, done[-1].seq)

    def tick(self, now: int) -> None:
        """Time has passed; nothing is due any more after that."""
        assert self.core is not None
        self.core.tick(now)
        assert self.core.deadline > now, f"{self.core.status}: still due"

    def drain(self, now: int) -> list[Ready]:
        """Do what the core asks for, until it asks for nothing."""
        core = self.core
        assert core is not None
        found: list[Ready] = []
        while (ready := core.ready()) is not None:
            assert len(found) < 50, "a core that never rests"
            found.append(ready)
            for _, message in ready.send:
                self._check_gate(message)
            if ready.write is not None:
                self.seq += 1
                assert ready.write.seq == self.seq, "writes are numbered without gaps"
                self.flying.append(ready.write)
            if ready.restore is not None:
                self._restore(ready.restore)
            assert ready.commit >= self.commit, "the commit index went back"
            self.commit = ready.commit
            self._apply(ready.commit)
            core.applied(now, self.applied)
        status = core.status
        assert status.commit <= status.last
        assert self.applied <= status.commit
        assert status.durable <= status.last
        return found

    def _restore(self, snap: Snap) -> None:
        assert snap.index > self.applied, "a snapshot of what is applied already"
        self.applied = snap.index
        self.state = self.snapshots[snap.index]

    def _apply(self, commit: int) -> None:
        assert self.core is not None
        if commit > self.applied:
            for entry in self.core.entries(self.applied + 1, commit):
                self.applied += 1
                assert entry.index == self.applied
                bytes(entry.payload)
                self.state = zlib.crc32(entry.frame[:4], self.state)
                self.on_applied(entry)

    def on_applied(self, entry: Entry) -> None:
        """An entry was applied; somebody may want to know."""

    def _check_gate(self, message: Message) -> None:
        """G1: what it asserts is on this disk."""
        hard = self.disk.hard
        match message:
            case Ack(ok=True):
                ballot = message.ballot
                if self.engine == "raft":
                    assert hard.promised.round >= ballot.round, message
                else:
                    assert hard.promised >= ballot, message
                    assert message.match == 0 or hard.accepted >= ballot, message
                assert self.disk.holds(message.match), message
                snapped = self.disk.snap.index
                rotten = [each for each in self.disk.rotten if snapped < each <= message.match]
                assert not rotten, (message, rotten)
            case Prepare(pre=False):
                assert hard.promised >= message.ballot, message
            case Promise(pre=False, ok=True):
                assert hard.promised >= message.ballot, message
            case _:
                pass

    def snapshot(self) -> Snap | None:
        """Take a snapshot of what is applied and durable, and compact the log."""
        core = self.core
        assert core is not None
        if self.applied > core.status.durable or self.applied <= self.disk.snap.index:
            return None
        snap = core.snap(self.applied)
        self.snapshots[snap.index] = self.state
        core.compact(snap)
        return snap


def describe_done(done: Done) -> str:
    """One answer, in a line."""
    where = f" at {done.index}" if done.index else ""
    return f"{done.token} {done.what}{where}" + (f" hint {done.hint}" if done.hint else "")


__all__ = [
    "ENGINES",
    "KIND_SEAL",
    "Disk",
    "Host",
    "describe_done",
    "over_the_wire",
]
