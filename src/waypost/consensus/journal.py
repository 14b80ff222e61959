"""The stream of writes to disk, and the gate: what is durable, and what must wait for it.

Whatever changes (promises, the log, a snapshot) is noted here and leaves as one ``Write`` at the
next ``take``; the log itself is read at that moment, so nothing is queued twice.  Each write has a
number, and is reported by it: an entry that was overwritten while its fsync was under way is not
mistaken for what took its place (etcd-io/raft ``newStorageAppendRespMsg`` tells of that ABA).

Always true: ``durable <= written <= log.last``; ``durable`` counts only entries that stand in the
log as they are on disk; a held message leaves when every write that it may rest on is durable (G1).
"""

from collections import deque

from waypost.consensus.core import Hard, Message, Seq, Snap, Write
from waypost.consensus.entry import Ballot, Index, Nid, Ns
from waypost.consensus.log import Log

_COMMITS_PER_NOTE = 1024
"""The commit index on disk is at most so far behind; it saves a restart nothing else."""


class Journal:
    """The writes of one member."""

    __slots__ = (
        "_flying",
        "_hard_is_due",
        "_held",
        "_is_restarted",
        "_log",
        "_noted_commit",
        "_snap",
        "_truncate",
        "_written",
        "accepted",
        "durable",
        "durable_seq",
        "hard_seq",
        "promised",
        "seq",
        "suspect",
    )

    def __init__(self, log: Log, hard: Hard) -> None:
        self._log = log
        self.promised = hard.promised
        """Raft: (term, voted for)."""
        self.accepted = hard.accepted
        self.suspect = hard.suspect
        self.seq: Seq = 0
        """Of the last write that was taken."""
        self.durable_seq: Seq = 0
        self.hard_seq: Seq = 0
        """Of the write with the newest promises."""
        self.durable: Index = log.last
        self._written: Index = log.last  # handed to the disk up to here
        self._noted_commit = hard.commit
        self._truncate: Index | None = None
        self._snap: Snap | None = None
        self._is_restarted = False  # the log begins anew behind _snap
        self._hard_is_due = False
        self._flying: deque[tuple[Seq, Index, Ns]] = deque()  # taken: number, last entry, when
        self._held: deque[tuple[Seq, Nid, Message]] = deque()

    @property
    def hard_is_durable(self) -> bool:
        """Whether the promises as they stand are on disk."""
        return self.hard_seq <= self.durable_seq

    @property
    def oldest(self) -> Ns | None:
        """When the oldest write that is not durable was taken."""
        return self._flying[0][2] if self._flying else None

    @property
    def _is_due(self) -> bool:
        return (
            self._written < self._log.last
            or self._hard_is_due
            or self._truncate is not None
            or self._snap is not None
        )

    def promise(self, ballot: Ballot) -> None:
        """Never again take part in anything lower."""
        assert ballot >= self.promised, f"promised {self.promised}, so not {ballot}"
        if ballot > self.promised:
            self.promised = ballot
            self.note_hard()

    def accept(self, ballot: Ballot) -> None:
        """The log as it is now is synchronised in ``ballot``."""
        assert self.accepted < ballot <= self.promised, f"{self.accepted}, {self.promised}"
        self.accepted = ballot
        self.note_hard()

    def trust(self) -> None:
        """The disk has caught up with what it lost."""
        self.suspect = False
        self.note_hard()

    def distrust(self) -> None:
        """The disk may have lost what was told to others."""
        self.suspect = True
        self.note_hard()

    def note_hard(self) -> None:
        """What is promised is not on disk as it stands."""
        self._hard_is_due = True
        self.hard_seq = self.seq + 1

    def rewrite(self, index: Index) -> None:
        """The log from ``index`` on is not what is on disk: drop that and write this."""
        if index <= self._written:
            self._truncate = min(index, self._truncate or index)
            self._written = index - 1
        self.doubt(index)

    def doubt(self, index: Index) -> None:
        """What is on disk from ``index`` on does not count before the next write is durable."""
        self.durable = min(self.durable, index - 1)
        self._flying = deque((seq, min(last, index - 1), at) for seq, last, at in self._flying)

    def mark(self, snap: Snap) -> None:
        """A snapshot is durable and stands for the log up to its index."""
        assert snap.index <= self._written, "a snapshot of what is not written"
        self._snap = snap

    def restart(self, snap: Snap, after: Index) -> None:
        """The log begins anew behind ``snap``; of the old one, nothing after ``after`` is kept."""
        self.rewrite(after + 1)
        self._written = snap.index
        self._snap = snap
        self._is_restarted = True

    def hold(self, dst: Nid, message: Message) -> None:
        """Let ``message`` leave when all that is noted by now is durable."""
        self._held.append((self.seq + 1 if self._is_due else self.seq, dst, message))

    def released(self) -> list[tuple[Nid, Message]]:
        """Messages that need not wait any more."""
        held = self._held
        if not held or held[0][0] > self.durable_seq:
            return []
        free: list[tuple[Nid, Message]] = []
        while held and held[0][0] <= self.durable_seq:
            _, dst, message = held.popleft()
            free.append((dst, message))
        return free

    def take(self, now: Ns, commit: Index) -> Write | None:
        """The next write, with everything noted since the last one."""
        if not self._is_due:
            return None
        self.seq = seq = self.seq + 1
        log = self._log
        # Behind a snapshot that restarts the log, entries have a write of their own: in a write
        # they come before the snapshot (G2).
        last = self._written if self._is_restarted else log.last
        entries = tuple(log.between(self._written + 1, last)) if last > self._written else ()
        hard = None
        if self._hard_is_due or commit - self._noted_commit >= _COMMITS_PER_NOTE:
            self._noted_commit = commit = min(commit, last)
            hard = Hard(self.promised, self.accepted, commit, self.suspect)
        write = Write(seq, hard, self._truncate, entries, self._snap)
        self._written = last
        self._flying.append((seq, last, now))
        self._truncate = self._snap = None
        self._is_restarted = self._hard_is_due = False
        return write

    def persisted(self, seq: Seq) -> None:
        """Writes up to ``seq`` are durable."""
        assert seq <= self.seq, f"write {seq} was never handed out, the last one is {self.seq}"
        flying = self._flying
        while flying and flying[0][0] <= seq:
            self.durable_seq, last, _ = flying.popleft()
            assert last >= self.durable, f"{self.durable} was durable, and now {last} is"
            self.durable = last
