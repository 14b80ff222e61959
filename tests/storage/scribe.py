"""A core that makes writes and remembers, after each one, what the log then is."""

import random
from collections.abc import Callable

import msgspec

from waypost.consensus import NO_SNAP, Ballot, Boot, Entry, Hard, Snap, Write
from waypost.consensus.entry import KIND_BATCH, encode
from waypost.storage.simdisk import SimDisk
from waypost.storage.wal import Wal

CLUSTER, NODE = 0xC1, 1


class State(msgspec.Struct, frozen=True):
    """What a restart has to bring back: the frames of the log, and what was promised."""

    entries: tuple[Entry, ...] = ()
    hard: Hard = Hard()

    @property
    def frames(self) -> tuple[bytes, ...]:
        """What stands on disk."""
        return tuple(entry.frame for entry in self.entries)


class Scribe:
    """Makes writes; ``states[k]`` is the log after ``k`` of them."""

    def __init__(self) -> None:
        self.log: list[Entry] = []
        self.hard = Hard()
        self.round = 1
        self.seq = 0
        self.states = [State()]

    def append(self, *payloads: bytes, sync: bool = True, hard: bool = False) -> Write:
        """Append entries."""
        return self._write(payloads, None, sync, hard)

    def replace(self, start: int, *payloads: bytes) -> Write:
        """Cut the log and go on differently, as a follower does under a new leader."""
        self.round += 1
        return self._write(payloads, start, True, True)

    def commit(self, index: int) -> Write:
        """Note lazily that so much is committed."""
        self.seq += 1
        self.hard = Hard(self.hard.promised, self.hard.accepted, index)
        self._note()
        return Write(self.seq, self.hard, sync=False)

    def snapshot(self, index: int) -> tuple[Snap, Write]:
        """Mark a snapshot that is durable."""
        snap = self.snap(index)
        self.seq += 1
        self._note()
        return snap, Write(self.seq, snap=snap)

    def snap(self, index: int) -> Snap:
        """The identity of a snapshot."""
        entry = self.log[index - 1]
        return Snap(index, entry.ballot, entry.kind, entry.chain)

    def restart(self, boot: Boot) -> None:
        """Go on after a recovery: what was not recovered never happened."""
        self.log = self.log[: boot.snap.index] + list(boot.entries)
        self.hard = boot.hard
        self.round = max(self.round, self.hard.promised.round) + 1
        self.seq = 0
        self.states = [State(tuple(self.log), self.hard)]

    def _write(
        self, payloads: tuple[bytes, ...], truncate: int | None, sync: bool, hard: bool
    ) -> Write:
        if truncate is not None:
            del self.log[truncate - 1 :]
        ballot = Ballot(1, self.round, NODE)
        entries: list[Entry] = []
        for payload in payloads:
            prev = self.log[-1].chain if self.log else 0
            entry = encode(len(self.log) + 1, ballot, KIND_BATCH, payload, prev)
            self.log.append(entry)
            entries.append(entry)
        if hard:
            self.hard = Hard(ballot, ballot, self.hard.commit)
        self.seq += 1
        self._note()
        return Write(self.seq, self.hard if hard else None, truncate, tuple(entries), sync=sync)

    def _note(self) -> None:
        self.states.append(State(tuple(self.log), self.hard))


def ids(seed: int = 0) -> Callable[[], int]:
    """Numbers for segments, the same in every run."""
    rng = random.Random(seed)
    return lambda: rng.getrandbits(64) | 1


def payload(size: int, seed: int) -> bytes:
    """Bytes without eight zeros in a row."""
    return random.Random(seed).randbytes(size)


def opened(
    disk: SimDisk,
    snap: Snap = NO_SNAP,
    *,
    segment_bytes: int = 8192,
    seed: int = 0,
    has_peers: bool = False,
    accept_data_loss: bool = False,
) -> tuple[Wal, Boot]:
    """Open the log as a test does."""
    return Wal.open(
        disk,
        cluster=CLUSTER,
        node=NODE,
        snap=snap,
        segment_bytes=segment_bytes,
        draw_id=ids(seed),
        has_peers=has_peers,
        accept_data_loss=accept_data_loss,
    )


def frames(boot: Boot) -> tuple[bytes, ...]:
    """The frames of the log after the snapshot."""
    return tuple(entry.frame for entry in boot.entries)


def segments(disk: SimDisk) -> list[str]:
    """The files of the log."""
    return [name for name in disk.names() if name.endswith(".log")]


def calls_of(disk: SimDisk) -> list[str]:
    """The verbs from now on, as they are called."""
    calls: list[str] = []
    disk.before = lambda verb, name: calls.append(verb)
    return calls


def read_back(disk: SimDisk) -> State:
    """What the next start finds."""
    boot = opened(disk)[1]
    return State(boot.entries, boot.hard)
