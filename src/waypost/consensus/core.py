"""What every consensus core is: its inputs, its one output, and what both sides promise.

A core is a state machine without I/O (after etcd-io/raft's RawNode): methods bring inputs in,
``ready`` drains what is to be done.  The *durability gate* is inside: a message that asserts
something which is not durable yet stays in the core until ``persisted``, so whatever stands in
``Ready.send`` may be sent at once.  Members are fixed for a core's life; a change of members or of
engine is a Seal entry, after which a fresh core continues the log in the next epoch (compare
Stoppable Paxos, Lamport, Malkhi and Zhou 2008, and the StopSign of OmniPaxos, EuroSys 2023).

The driver promises:

* D1  inputs come from one task;
* D2  ``now`` never decreases;
* D3  writes are made in the order of ``seq``, and a ``seq`` is reported only when its write *and
  every one before it* is durable; recovery returns the state after some whole number of writes,
  not fewer than were reported;
* D4  a failed write is fatal: nobody retries an fsync;
* D5  entries are applied in the order of their indexes;
* D6  the inbox is drained before ``tick``, so that a paused node does not campaign while
  heartbeats wait unread.

The core promises:

* G1  *Gate.*  No message leaves while something that it asserts is not durable: a vote or promise
  needs ``promised``, an ack needs the entries up to its match.  Appends, heartbeats and commit
  notices assert nothing durable.  A leader counts itself only up to ``durable``.
* G2  *Stream order.*  Within a write: truncate before entries before accepted.  A write is one
  atomic batch on disk; the order is the second line of defence.  ``hard.commit`` alone never
  asks for a sync.
* G3  *Determinism.*  The same ``Boot``, settings, draws and inputs give the same Readys, byte for
  byte: no clock, no ``hash``, no iteration of a set.
* G4  *Exactly one answer* for each token of ``propose``, ``seal`` and ``read``.
* G5  ``durable <= last``, ``snap.index <= applied <= commit <= last``; promised, commit, applied
  and seq never decrease.  The commit of a leader may exceed its own ``durable`` (a majority of the
  others holds it), but no snapshot is taken above ``durable``.
* G6  A follower commits up to the match verified in this ballot, never up to its last entry.
* G7  An ack names ballot, durable match and round; acks of another ballot count for nothing.
* G8  *Bounded memory.*  Beyond its bounds a core refuses; it does not queue.
* G9  *Seal.*  ``Ready.commit`` never passes the first committed Seal of the core's epoch, however
  much follows it in the log, and nothing is proposed after a Seal that the core knows.

Ballots, entries and their frames are told in ``entry``; this module brings their names along.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from waypost.consensus.entry import (
    KIND_BATCH,
    KIND_NOOP,
    KIND_SEAL,
    NO_BALLOT,
    Ballot,
    Entry,
    Index,
    Nid,
    Ns,
)
from waypost.consensus.epoch import Epoch
from waypost.consensus.messages import CoreMessage

__all__ = [
    "FOREVER",
    "KIND_BATCH",
    "KIND_NOOP",
    "KIND_SEAL",
    "NO_BALLOT",
    "NO_SNAP",
    "Ballot",
    "Boot",
    "Core",
    "Done",
    "Entry",
    "Hard",
    "Index",
    "Message",
    "Nid",
    "Ns",
    "Outcome",
    "Ready",
    "Role",
    "Seq",
    "Snap",
    "Status",
    "Token",
    "Write",
]

Seq = int
"""Number of a write; the first one of a core is 1, and there are no gaps."""
Token = int
"""Chosen by the driver; whatever it stands for, the core answers it exactly once."""

FOREVER: Ns = (1 << 63) - 1

Message = CoreMessage
"""What cores say to each other: the driver carries it and does not look inside."""

Role = Literal["follower", "pre", "candidate", "leader", "learner", "recovering"]
"""Of a node; a core is never a learner: nodes that do not vote follow without one."""
Outcome = Literal["committed", "refused", "lost", "unknown"]


class Hard(msgspec.Struct, frozen=True, gc=False):
    """What a node must not forget.  In Raft, ``promised`` is (term, voted for)."""

    promised: Ballot = NO_BALLOT
    accepted: Ballot = NO_BALLOT
    commit: Index = 0
    """Lazy: at least so much is committed."""
    suspect: bool = False
    """What this disk lost may include promises: no votes until it has caught up again."""


class Snap(msgspec.Struct, frozen=True, gc=False):
    """What a snapshot stands for: the log up to and including one entry, by that entry's identity.

    ``kind`` and ``chain`` are the entry's own: a log that goes on from here knows whether it is
    sealed, and what the next entry's ``prev`` is.
    """

    index: Index
    ballot: Ballot
    kind: int
    chain: int


NO_SNAP = Snap(0, NO_BALLOT, KIND_BATCH, 0)


class Write(msgspec.Struct, frozen=True, gc=False):
    """One step of the ordered stream to disk: all of it survives a crash, or none.

    In this order: ``left`` says that the node has left its epoch for one whose tail it may not
    hold yet; ``truncate`` drops the log from that index on; ``entries`` continue it without a gap;
    ``snap`` says that a snapshot is durable and, if the log does not reach that far, that the log
    goes on after it (a core that installs a snapshot over a conflicting log truncates in the same
    write); ``epoch`` starts one; ``hard`` comes last.  An entry that rotted is repaired by writing
    the log anew from there.  Cores leave ``left`` and ``epoch`` alone: they are for the handover
    between cores (``waypost.replica``).
    """

    seq: Seq
    hard: Hard | None = None
    truncate: Index | None = None
    entries: tuple[Entry, ...] = ()
    snap: Snap | None = None
    sync: bool = True
    left: Epoch | None = None
    epoch: Epoch | None = None


class Boot(msgspec.Struct, frozen=True, gc=False):
    """What a node finds on its disk: everything that it may have told anyone, or says it cannot."""

    hard: Hard = Hard()
    snap: Snap = NO_SNAP
    entries: tuple[Entry, ...] = ()
    """The log after ``snap``, without a gap."""
    faulty: tuple[Index, ...] = ()
    """Entries that were durable here and are not readable: to be fetched, never to be denied."""
    epoch: Epoch | None = None
    """The newest that was started here; None in a directory from before there were epochs."""
    left: Epoch | None = None
    """One newer than ``epoch``, that this node knows of and has not started yet."""

    @property
    def suspect(self) -> bool:
        """Whether acknowledged writes or promises may be missing."""
        return self.hard.suspect


class Status(msgspec.Struct, frozen=True, gc=False):
    """Where a core stands."""

    role: Role
    ballot: Ballot
    leader: Nid
    last: Index
    durable: Index
    commit: Index
    barrier: Index
    """A read must see at least this: what earlier leaders may have committed."""
    lease_until: Ns
    """Reads need no round before this moment; 0 without leases."""
    sealed: Index
    """Of the Seal that ended this epoch, once it is committed; 0 while the epoch is open."""
    fresh: Ns = FOREVER
    """What is applied here is no older than what was committed at this moment of ``now``'s clock;
    a leader: when the newest round that a quorum confirmed left; 0: never yet."""
    matches: tuple[tuple[Nid, Index], ...] = ()
    """How far each other member is known to hold the log durably, at a leader."""


class Done(msgspec.Struct, frozen=True, gc=False):
    """The one answer to a token of ``propose`` or ``seal``.

    committed: it stands at ``index``.  refused: it is certainly not in the log; ``hint`` is who to
    ask (this node itself: later, 0: nobody known).  lost: another entry took its place.  unknown:
    it may yet commit; the session's deduplication decides what a retry does.
    """

    token: Token
    what: Outcome
    index: Index = 0
    hint: Nid = 0


class Ready(msgspec.Struct, frozen=True, gc=False):
    """What the driver is to do now."""

    commit: Index
    """Apply the entries after the last applied one up to here, then call ``applied``."""
    send: tuple[tuple[Nid, Message], ...] = ()
    """Always safe to send at once, in any order, any number of times, or never."""
    write: Write | None = None
    """Hand it to the disk, and call ``persisted`` when it is durable."""
    done: tuple[Done, ...] = ()
    reads: tuple[tuple[Token, Index], ...] = ()
    """Serve each as soon as its index is applied."""
    reads_failed: tuple[Token, ...] = ()
    send_snapshot: tuple[tuple[Nid, Index], ...] = ()
    """Bulk data goes outside of the core; answer with ``snapshot_sent``."""
    restore: Snap | None = None
    """Replace the state machine by this staged snapshot before applying anything."""
    status: Status | None = None
    """When role, ballot, leader or seal changed; positions move without a notice."""


class Core(Protocol):
    """A consensus core: no clock, no I/O, no waiting, no chance but what is injected."""

    @property
    def deadline(self) -> Ns:
        """Call ``tick`` no later than this; ``FOREVER`` if time does not matter."""
        ...

    @property
    def status(self) -> Status:
        """Where it stands now."""
        ...

    def tick(self, now: Ns) -> None:
        """Time has passed."""
        ...

    def receive(self, now: Ns, src: Nid, message: Message) -> None:
        """A peer sent this."""
        ...

    def propose(self, now: Ns, payload: bytes, token: Token) -> None:
        """Append a whole batch of commands; the answer is a ``Done``."""
        ...

    def seal(self, now: Ns, payload: bytes, token: Token) -> None:
        """Append the Seal that ends this epoch; the answer is a ``Done``."""
        ...

    def read(self, now: Ns, token: Token) -> None:
        """Ask for the index at which a linearizable read may be served; one token, many reads."""
        ...

    def transfer(self, now: Ns, to: Nid) -> None:
        """Hand leadership over, if this node holds it; ``Status`` tells what came of it."""
        ...

    def gone(self, now: Ns, nid: Nid) -> None:
        """Where ``nid`` ran, nothing listens any more: a hint, which may be wrong."""
        ...

    def persisted(self, now: Ns, seq: Seq) -> None:
        """Every write up to ``seq`` is durable."""
        ...

    def applied(self, now: Ns, index: Index) -> None:
        """The state machine has applied everything up to ``index``."""
        ...

    def entries(self, first: Index, last: Index) -> Sequence[Entry]:
        """The log from ``first`` to ``last``, both included; compacted entries are gone."""
        ...

    def snap(self, index: Index) -> Snap:
        """The identity of a snapshot taken exactly after ``index``."""
        ...

    def compact(self, snap: Snap) -> None:
        """A verified snapshot is durable: the log up to it may go."""
        ...

    def snapshot_staged(self, now: Ns, src: Nid, ballot: Ballot, snap: Snap) -> None:
        """A snapshot from a peer is complete, verified and durable on this disk."""
        ...

    def snapshot_sent(self, now: Ns, to: Nid, index: Index, ok: bool) -> None:
        """What came of ``Ready.send_snapshot``."""
        ...

    def space(self, ok: bool) -> None:
        """Whether the disk has room: without it proposals are refused, votes and commits go on."""
        ...

    def ready(self) -> Ready | None:
        """What to do now, drained; None when there is nothing."""
        ...
