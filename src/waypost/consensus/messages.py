"""What the members of an epoch say to each other: one set of messages for Raft and Multi-Paxos.

    here         Raft (Ongaro and Ousterhout 2014)    Multi-Paxos (Lamport 2001; Sequence Paxos)
    Prepare      RequestVote, PreVote                 prepare (1a), for all slots above the commit
    Promise      the vote                             promise (1b), with what was accepted
    Append       AppendEntries, heartbeat             accept (2a), decide
    Ack          its reply                            accepted (2b)
    Read/ReadAt  ReadIndex of a follower              the same
    Handoff      TimeoutNow                           the same
    Hello        of a node whose disk is suspect: it must learn what it forgot before it votes
    Repair       ask for entries that rotted

The bytes of a snapshot go outside of the cores; who has it says so by its next ``Ack``.

Positional MessagePack with integer tags: fields are only ever appended.  Which epoch a message
belongs to is said by its ballot; ``waypost.replica`` never hands a core a message of another one.
"""

import msgspec

from waypost.consensus.entry import NO_BALLOT, Ballot, Index, Ns


class Prepare(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Ask for a vote, or a promise, in ``ballot``."""

    ballot: Ballot
    pre: bool
    """Only ask whether it would be given: nothing is promised, nothing changes."""
    accepted: Ballot
    """Ballot in which the candidate's log was last synchronised; Raft: of its last entry."""
    last: Index
    commit: Index
    force: bool = False
    """The leader handed over: vote although it was heard just now."""


class Promise(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """The answer to ``Prepare``."""

    ballot: Ballot
    """The asked one if ``ok``; otherwise the highest promised, for the candidate to learn of."""
    pre: bool
    ok: bool
    accepted: Ballot
    """As in ``Prepare``, of the voter's log."""
    last: Index
    first: Index = 0
    """Where ``suffix`` begins; 0 without one."""
    suffix: tuple[bytes, ...] = ()
    """Paxos: frames above the candidate's commit, if this log beats the candidate's."""
    withheld: bool = False
    """Paxos: there should be a suffix, but it begins below this log, is unreadable or too long."""


class Append(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """Entries after ``prev``, none in a heartbeat."""

    ballot: Ballot
    prev: Index
    prev_ballot: Ballot
    frames: tuple[bytes, ...]
    commit: Index
    round: int
    """Grows with each heartbeat of a ballot; an ack of a round confirms every earlier read."""
    base: Index = 0
    """Paxos: the end of the log that the leader took over; only beyond it is a log synchronised."""
    connected: bool = True
    """False: the leader hears no quorum, and who does may stand for election."""
    age: Ns = 0
    """For how long, when this left, the leader had not been confirmed by a quorum."""
    echo: Ns = 0
    """The newest ``Ack.sent`` of the receiver: what it holds now is no older than that moment."""


class Ack(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """The answer to ``Append``."""

    ballot: Ballot
    """Of the append if ``ok``; otherwise the highest promised, or its own with a hint."""
    ok: bool
    match: Index
    """Everything up to here is durable at the sender and equals the leader's log.  Paxos: 0 while
    its log is not synchronised in this ballot."""
    held: Index
    """Everything up to here equals the leader's log, durable or not: where to send on from."""
    round: int
    """Of the newest append; 0: the sender confirms nobody's leadership."""
    hint: Index = 0
    """Not ``ok``: the logs may be equal up to here; try from the entry after it."""
    hint_ballot: Ballot = NO_BALLOT
    """Of the entry at ``hint``: the leader skips what it has in later ballots."""
    sent: Ns = 0
    """The sender's clock, for the leader to echo; no other clock is compared with it."""


class Read(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """A follower asks the leader for an index at which its reads are linearizable."""

    ballot: Ballot
    number: int


class ReadAt(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """The answer to ``Read``."""

    ballot: Ballot
    number: int
    ok: bool
    index: Index


class Handoff(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """The leader asks the receiver to stand for election at once."""

    ballot: Ballot


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    """A member whose disk is suspect asks every other one what it may have promised."""

    ballot: Ballot
    nonce: int


class HelloAck(msgspec.Struct, frozen=True, array_like=True, tag=9, gc=False):
    """The answer: the highest ballot promised here; a leader's own, if one answers."""

    ballot: Ballot
    nonce: int
    leads: bool
    last: Index
    """Of a leader: to be held, and committed, before the asker votes again."""


class Repair(msgspec.Struct, frozen=True, array_like=True, tag=10, gc=False):
    """Ask for entries that rotted at the sender, by index."""

    ballot: Ballot
    indexes: tuple[Index, ...]


class Repaired(msgspec.Struct, frozen=True, array_like=True, tag=11, gc=False):
    """Frames that were asked for; the receiver checks their identity against its headers."""

    ballot: Ballot
    frames: tuple[bytes, ...]


CoreMessage = (
    Prepare
    | Promise
    | Append
    | Ack
    | Read
    | ReadAt
    | Handoff
    | Hello
    | HelloAck
    | Repair
    | Repaired
)


def ballot_of(message: CoreMessage) -> Ballot:
    """The ballot that every message names; its epoch is the message's."""
    return message.ballot
