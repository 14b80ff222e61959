"""A cluster of one: the smallest core that keeps the whole contract.

Its quorum is itself, so an entry is committed when it is durable, and not before: neither a
``Done`` nor a read may tell of an entry that a power loss could still take back
(etcd-io/raft#105).  Several proposals may be under way; each ``ready`` hands out one write with
all that came since the last.

Always true: ``snap.index <= applied <= commit <= durable <= last``; after a restart everything
that recovery found is committed; the round of its ballot grows with every start, so an index that
was lost with a disk and filled anew never carries the same (index, ballot) twice.
"""

from collections import deque
from collections.abc import Sequence

from waypost.consensus.core import (
    FOREVER,
    KIND_BATCH,
    KIND_SEAL,
    Ballot,
    Boot,
    Done,
    Entry,
    Hard,
    Index,
    Message,
    Nid,
    Ns,
    Ready,
    Seq,
    Snap,
    Status,
    Token,
    Write,
)
from waypost.consensus.entry import encode
from waypost.errors import Invalid, ProtocolViolation

UNCOMMITTED_BYTES_MAX = 16 << 20


class SoloCore:
    """The core of a cluster of one."""

    def __init__(
        self, me: Nid, boot: Boot, *, uncommitted_bytes_max: int = UNCOMMITTED_BYTES_MAX
    ) -> None:
        assert me > 0, "node 0 is nobody"
        is_damaged = boot.suspect or len(boot.faulty) > 0
        assert not is_damaged, "a cluster of one cannot repair its log: open it without peers"
        promised = boot.hard.promised
        self._me = me
        self._ballot = Ballot(max(promised.epoch, 1), promised.round + 1, me)
        self._snap = boot.snap
        self._log = list(boot.entries)  # the entries after _snap, without a gap
        self._chain = self._log[-1].chain if self._log else boot.snap.chain
        self._seal = self._find_seal()
        self._last = boot.snap.index + len(self._log)
        self._durable = self._last
        self._commit = self._seal or self._last
        self._applied = boot.snap.index
        self._now: Ns = 0
        self._has_space = True
        self._uncommitted_bytes = 0
        self._uncommitted_bytes_max = uncommitted_bytes_max
        self._waiting: deque[tuple[Index, Token, int]] = deque()  # index, token, payload bytes
        self._unwritten: list[Entry] = []
        self._seq: Seq = 0
        self._writing: deque[tuple[Seq, Index]] = deque()  # writes handed out, last entry of each
        self._unwritten_snap: Snap | None = None
        self._hard_is_due = True
        self._status_is_due = True
        self._done: list[Done] = []
        self._reads: list[tuple[Token, Index]] = []
        self._reads_failed: list[Token] = []

    def _find_seal(self) -> Index:
        """Return the index of this epoch's Seal, or 0."""
        epoch = self._ballot.epoch
        if self._snap.kind == KIND_SEAL and self._snap.ballot.epoch == epoch:
            return self._snap.index
        for entry in self._log:
            if entry.kind == KIND_SEAL and entry.ballot.epoch == epoch:
                return entry.index
        return 0

    @property
    def deadline(self) -> Ns:
        """Never: one node waits for nobody."""
        return FOREVER

    @property
    def status(self) -> Status:
        """It always leads, alone."""
        return Status(
            role="leader",
            ballot=self._ballot,
            leader=self._me,
            last=self._last,
            durable=self._durable,
            commit=self._commit,
            barrier=0,
            lease_until=FOREVER,
            sealed=self._seal if self._is_sealed else 0,
        )

    @property
    def _is_sealed(self) -> bool:
        return 0 < self._seal <= self._commit

    def tick(self, now: Ns) -> None:
        """Nothing depends on time."""
        self._see(now)

    def receive(self, now: Ns, src: Nid, message: Message) -> None:
        """Nobody may send anything to a cluster of one."""
        self._see(now)
        raise ProtocolViolation(
            f"node {src} sent {type(message).__name__} to a cluster of one: it has no members but "
            f"node {self._me}; check that address"
        )

    def propose(self, now: Ns, payload: bytes, token: Token) -> None:
        """Append a batch, or refuse it when the epoch is sealed, the disk full or too much waits.

        A batch is never refused for its own size while nothing else waits.
        """
        self._append(now, KIND_BATCH, payload, token)

    def seal(self, now: Ns, payload: bytes, token: Token) -> None:
        """Append the Seal; from here on everything is refused."""
        self._append(now, KIND_SEAL, payload, token)

    def _append(self, now: Ns, kind: int, payload: bytes, token: Token) -> None:
        self._see(now)
        size = len(payload)
        waiting = self._uncommitted_bytes
        if (
            self._seal
            or not self._has_space
            or (waiting and waiting + size > self._uncommitted_bytes_max)
        ):
            self._done.append(Done(token, "refused", 0, self._me))
            return
        entry = encode(self._last + 1, self._ballot, kind, payload, self._chain)
        self._last = entry.index
        self._chain = entry.chain
        self._log.append(entry)
        self._unwritten.append(entry)
        self._waiting.append((entry.index, token, size))
        self._uncommitted_bytes = waiting + size
        if kind == KIND_SEAL:
            self._seal = entry.index

    def read(self, now: Ns, token: Token) -> None:
        """Confirm at once, at the commit index: it is durable, and nothing newer was answered.

        After the Seal the next epoch may have moved on elsewhere, so reads fail here.
        """
        self._see(now)
        if self._is_sealed:
            self._reads_failed.append(token)
        else:
            self._reads.append((token, self._commit))

    def transfer(self, now: Ns, to: Nid) -> None:
        """Refuse: there is nobody to hand over to."""
        self._see(now)
        if to != self._me:
            raise Invalid(
                f"transfer: node {to} is not a member of this cluster of one: add it first",
                field="transfer",
            )

    def gone(self, now: Ns, nid: Nid) -> None:  # noqa: ARG002
        """Nobody leads here that could be missed."""
        self._see(now)

    def persisted(self, now: Ns, seq: Seq) -> None:
        """Commit what became durable."""
        self._see(now)
        assert seq <= self._seq, f"write {seq} was never handed out, the last one is {self._seq}"
        writing = self._writing
        while writing and writing[0][0] <= seq:
            self._durable = writing.popleft()[1]
        self._commit = commit = min(self._durable, self._seal or self._durable)
        waiting = self._waiting
        while waiting and waiting[0][0] <= commit:
            index, token, size = waiting.popleft()
            self._uncommitted_bytes -= size
            self._done.append(Done(token, "committed", index, self._me))
            if index == self._seal:
                self._status_is_due = True

    def applied(self, now: Ns, index: Index) -> None:
        """Move the mark above which no snapshot is taken."""
        self._see(now)
        assert self._applied <= index <= self._commit, (
            f"applied {index} is outside {self._applied} to {self._commit}"
        )
        self._applied = index

    def entries(self, first: Index, last: Index) -> Sequence[Entry]:
        """Return entries from memory; what ``compact`` dropped is gone."""
        snapped = self._snap.index
        assert snapped < first <= last + 1 <= self._last + 1, (
            f"entries {first} to {last} are outside {snapped + 1} to {self._last}"
        )
        return self._log[first - snapped - 1 : last - snapped]

    def snap(self, index: Index) -> Snap:
        """Return the identity of a snapshot at an applied index."""
        if index == self._snap.index:
            return self._snap
        assert index <= self._applied, f"{index} is not applied, only {self._applied} is"
        entry = self.entries(index, index)[0]
        return Snap(index, entry.ballot, entry.kind, entry.chain)

    def compact(self, snap: Snap) -> None:
        """Drop the log up to ``snap`` from memory, and note the snapshot in the next write."""
        assert snap == self.snap(snap.index), f"{snap} is not of this log"
        if snap.index > self._snap.index:
            del self._log[: snap.index - self._snap.index]
            self._snap = snap
            self._unwritten_snap = snap

    def snapshot_staged(self, now: Ns, src: Nid, ballot: Ballot, snap: Snap) -> None:
        """Nobody may send a snapshot to a cluster of one."""
        self._see(now)
        raise ProtocolViolation(
            f"node {src} sent a snapshot at {snap.index} of ballot {ballot} to a cluster of one"
        )

    def snapshot_sent(self, now: Ns, to: Nid, index: Index, ok: bool) -> None:
        """Never happens: no snapshot was asked for."""
        raise AssertionError(f"at {now}: a snapshot at {index} for node {to} ({ok=}) was not asked")

    def space(self, ok: bool) -> None:
        """Refuse proposals while the disk is full; what was accepted goes on."""
        self._has_space = ok

    def ready(self) -> Ready | None:
        """Hand out one write with all that came since the last, and everything that is answered."""
        write = self._next_write()
        # The commit index never moves without one of these: somebody asked for every entry.
        is_due = self._done or self._reads or self._reads_failed or self._status_is_due
        if write is None and not is_due:
            return None
        ready = Ready(
            self._commit,
            write=write,
            done=tuple(self._done),
            reads=tuple(self._reads),
            reads_failed=tuple(self._reads_failed),
            status=self.status if self._status_is_due else None,
        )
        self._status_is_due = False
        self._done.clear()
        self._reads.clear()
        self._reads_failed.clear()
        return ready

    def _next_write(self) -> Write | None:
        if not self._unwritten and self._unwritten_snap is None:
            return None
        self._seq += 1
        hard = Hard(self._ballot, self._ballot, self._commit) if self._hard_is_due else None
        write = Write(self._seq, hard, None, tuple(self._unwritten), self._unwritten_snap)
        self._writing.append((self._seq, self._last))
        self._unwritten.clear()
        self._unwritten_snap = None
        self._hard_is_due = False
        return write

    def _see(self, now: Ns) -> None:
        assert now >= self._now, f"time went back from {self._now} to {now}"
        self._now = now
