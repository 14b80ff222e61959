"""What every role of a member works on: who it is, its log, its journal, and what is to be sent.

Always true: ``snap.index <= applied <= visible <= commit <= log.last``.
"""

from collections.abc import Callable

from waypost.consensus.answers import Answers
from waypost.consensus.core import (
    FOREVER,
    Boot,
    Hard,
    Message,
    Snap,
    Token,
)
from waypost.consensus.entry import Ballot, Index, Nid, Ns
from waypost.consensus.epoch import Epoch
from waypost.consensus.journal import Journal
from waypost.consensus.log import Log
from waypost.consensus.patience import Patience
from waypost.consensus.quorum import majority
from waypost.consensus.reads import Freshness
from waypost.consensus.settings import Settings


class Site:
    """One member of one epoch."""

    __slots__ = (
        "_echo_shift",
        "_started",
        "answers",
        "applied",
        "commit",
        "draw",
        "epoch",
        "freshness",
        "has_space",
        "journal",
        "log",
        "me",
        "now",
        "others",
        "outbox",
        "patience",
        "quorum",
        "reads",
        "reads_failed",
        "repaired_from",
        "restore",
        "seen",
        "send_snapshot",
        "settings",
        "snap",
    )

    def __init__(
        self,
        me: Nid,
        epoch: Epoch,
        boot: Boot,
        *,
        now: Ns,
        settings: Settings,
        draw: Callable[[], float],
    ) -> None:
        assert me in epoch.members, f"node {me} is not a member of epoch {epoch.number}"
        self.me = me
        self.epoch = epoch.number
        self.others = tuple(sorted(nid for nid in epoch.members if nid != me))
        self.quorum = majority(len(epoch.members))
        self.settings = settings
        self.patience = Patience(settings.election)
        self.draw = draw
        self.now = now
        self._started = now
        self._echo_shift = int(draw() * (1 << 60))
        self.log = Log(epoch.number, boot.snap, boot.entries, boot.faulty)
        self.journal = Journal(self.log, _in_epoch(boot.hard, epoch))
        self.repaired_from: Index = 0
        """Lowest entry that has its bytes back in memory and not on disk; 0 for none."""
        self.snap = boot.snap
        self.applied: Index = boot.snap.index
        hard = boot.hard
        committed = max(hard.commit, boot.snap.index, epoch.first - 1)
        if (self.journal.promised, self.journal.accepted) != (hard.promised, hard.accepted):
            self.journal.note_hard()
        if committed > self.log.last:
            # What was announced as committed was durable here once (etcd#10166).
            self.journal.distrust()
        self.commit: Index = min(committed, self.log.last)
        """Of the core: a majority holds everything up to here, the Seal and beyond included."""
        self.seen = self.journal.promised
        """The highest ballot heard of; only who stands for election needs to know."""
        self.has_space = True
        self.answers = Answers(me)
        self.freshness = Freshness()
        self.outbox: list[tuple[Nid, Message]] = []
        self.reads: list[tuple[Token, Index]] = []
        self.reads_failed: list[Token] = []
        self.send_snapshot: list[tuple[Nid, Index]] = []
        self.restore: Snap | None = None

    @property
    def visible(self) -> Index:
        """How far entries may be applied: not past the Seal (G9), nor what is unreadable."""
        log = self.log
        return min(self.commit, log.seal or FOREVER, log.first_fault - 1)

    @property
    def sealed(self) -> Index:
        """Of the committed Seal of this epoch, 0 while it is open."""
        seal = self.log.seal
        return seal if seal <= self.commit else 0

    @property
    def durable(self) -> Index:
        """What this member may say to hold: a fault was durable once and is not now."""
        durable = min(self.journal.durable, self.log.first_fault - 1)
        return min(durable, self.repaired_from - 1) if self.repaired_from else durable

    def echo_of(self, moment: Ns) -> int:
        """What a peer is to echo; of another life of this node, it names no moment of this one."""
        return moment + self._echo_shift

    def own_moment(self, echo: int) -> Ns:
        """The moment that an echo names; 0 if it is not one of ours."""
        moment = echo - self._echo_shift
        return moment if self._started <= moment <= self.now else 0

    def send(self, dst: Nid, message: Message) -> None:
        """It asserts nothing that is not durable: let it leave at once."""
        self.outbox.append((dst, message))

    def hear_of(self, ballot: Ballot) -> None:
        """Remember the highest ballot: the next campaign must be above it."""
        self.seen = max(self.seen, ballot)

    def repaired(self, index: Index) -> None:
        """The entry at ``index`` has its bytes back."""
        self.repaired_from = min(index, self.repaired_from or index)

    def write_repairs(self) -> None:
        """Write the log anew from where it was repaired, once nothing is missing."""
        if self.repaired_from and not self.log.faulty:
            if self.repaired_from > self.log.base:
                self.journal.rewrite(min(self.repaired_from, self.log.last + 1))
            self.repaired_from = 0

    def identity(self, index: Index) -> Snap:
        """What a snapshot exactly after ``index`` stands for."""
        if index == self.snap.index:
            return self.snap
        assert index <= self.applied, f"{index} is not applied, only {self.applied} is"
        assert index <= self.durable, f"{index} is not durable, only {self.durable} is"
        entry = self.log.at(index)
        return Snap(index, entry.ballot, entry.kind, entry.chain)

    def compact(self, snap: Snap) -> None:
        """A snapshot stands for the log up to its index: keep a tail of that, and drop the rest."""
        assert snap == self.identity(snap.index), f"{snap} is not of this log"
        if snap.index <= self.snap.index:
            return
        self.snap = snap
        self.journal.mark(snap)
        settings, log = self.settings, self.log
        log.drop(snap.index - settings.trailing_entries)
        log.drop(log.bytes_behind(snap.index, settings.trailing_bytes) - 1)

    def install(self, snap: Snap) -> bool:
        """Go on from a snapshot that a peer sent; False if it tells nothing new.

        "If existing log entry has same index and term as snapshot's last included entry, retain
        log entries following it"; otherwise "discard the entire log" (Raft, figure 13, steps 6, 7).
        """
        log = self.log
        if snap.index <= self.visible:
            return False
        is_same = (
            snap.index <= self.commit
            or log.holds(snap.index, snap.ballot)
            or (snap.index in log.faulty and log.may_be(snap.index, snap.chain))
        )
        if is_same and log.first_fault > snap.index:
            # The log has all of it, and it is committed: entries are cheaper than a snapshot.
            return True
        # What is missing on this disk is missing until the snapshot is marked there.
        missing = min(log.first_fault, self.repaired_from or FOREVER)
        if is_same:
            if snap.index > self.journal.durable:
                return False
            self.journal.mark(snap)
            self.journal.doubt(missing)
            log.rebase(snap)
            if self.repaired_from:
                self.repaired_from = max(self.repaired_from, snap.index + 1)
            self.write_repairs()
        else:
            self.journal.restart(snap, self.commit)
            self.journal.doubt(missing)
            log.restart(snap)
            self.repaired_from = 0
        self.snap = self.restore = snap
        self.applied = snap.index
        return True

    def drained(self) -> None:
        """Everything was handed out."""
        for each in (
            self.outbox,
            self.answers.done,
            self.reads,
            self.reads_failed,
            self.send_snapshot,
        ):
            if each:
                each.clear()
        self.restore = None


def _in_epoch(hard: Hard, epoch: Epoch) -> Hard:
    """What is promised in ``epoch`` at least: its first ballot to its first leader, no other."""
    return Hard(
        max(hard.promised, epoch.first_ballot),
        max(hard.accepted, Ballot(epoch.number, 0, 0)),
        hard.commit,
        hard.suspect,
    )
