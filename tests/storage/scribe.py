"""A core that makes writes and remembers, after each one, what the log then is."""

import random
from collections.abc import Callable

import msgspec

from waypost.consensus import NO_SNAP, Ballot, Boot, Entry, Hard, Snap, Write
from waypost.consensus.entry import KIND_BATCH, encode
from waypost.consensus.epoch import Epoch, Peer
from waypost.storage.simdisk import SimDisk
from waypost.storage.wal import Wal

CLUSTER, NODE = 0xC1, 1


class State(msgspec.Struct, frozen=True):
    """What a restart has to bring back: the frames of the log, and what was promised."""

    entries: tuple[Entry, ...] = ()
    hard: Hard = Hard()
    epoch: Epoch | None = None
    left: Epoch | None = None

    @property
    def frames(self) -> tuple[bytes, ...]:
        """What stands on disk."""
        return tuple(entry.frame for entry in self.entries)


class Scribe:
    """Makes writes; ``states[k]`` is the log after ``k`` of them."""

    def __init__(self) -> None:
        self.log: list[Entry] = []
        self.hard = Hard()
        self.epoch: Epoch | None = None
        self.left: Epoch | None = None
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

    def leave(self, number: int) -> Write:
        """Learn of a newer epoch, whose beginning is not held yet."""
        self.left = epoch(number, len(self.log) + 3)
        self.seq += 1
        self._note()
        return Write(self.seq, left=self.left)

    def start(self, number: int) -> Write:
        """Start an epoch on the log but for its last entry."""
        first = len(self.log)
        del self.log[first - 1 :]
        self.epoch, self.left = epoch(number, first), None
        ballot = Ballot(number, 1, NODE)
        self.hard = Hard(ballot, ballot, first - 1)
        self.seq += 1
        self._note()
        return Write(self.seq, self.hard, first, epoch=self.epoch)

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
        self.epoch, self.left = boot.epoch, boot.left
        self.round = max(self.round, self.hard.promised.round) + 1
        self.seq = 0
        self.states = [State(tuple(self.log), self.hard, self.epoch, self.left)]

    def _write(
        self, payloads: tuple[bytes, ...], truncate: int | None, sync: bool, hard: bool
    ) -> Write:
        if truncate is not None:
            del self.log[truncate - 1 :]
        number = self.epoch.number if self.epoch else 1
        ballot = Ballot(number, self.round, NODE)
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
        self.states.append(State(tuple(self.log), self.hard, self.epoch, self.left))


def epoch(number: int, first: int) -> Epoch:
    """An epoch as large as they come."""
    members = {nid: Peer(f"node-{nid}", f"host-{nid}.example.org:8300") for nid in range(1, 8)}
    return Epoch(CLUSTER, number, "raft", members, first, 1, Ballot(number - 1, 7, 2), members)


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
    snap_epoch: Epoch | None = None,
) -> tuple[Wal, Boot]:
    """Open the log as a test does."""
    return Wal.open(
        disk,
        cluster=CLUSTER,
        node=NODE,
        snap=snap,
        snap_epoch=snap_epoch,
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
    return State(boot.entries, boot.hard, boot.epoch, boot.left)
