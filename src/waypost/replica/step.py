"""What a member tells its driver: what to do now, and where it stands."""

from typing import Final

import msgspec

from waypost.consensus.core import (
    Ballot,
    Done,
    Entry,
    Index,
    Nid,
    Ns,
    Role,
    Snap,
    Token,
    Write,
)
from waypost.consensus.epoch import Epoch, Peer
from waypost.replica.peer_messages import PeerMessage

ANSWERED_FIRST_BYTES: Final = 4 << 10


class MemberStatus(msgspec.Struct, frozen=True, gc=False):
    """Where a node stands."""

    role: Role
    ballot: Ballot
    leader: Nid
    epoch: Epoch
    """The newest that this node knows of; number 0 if it knows none."""
    started: bool
    """It takes part in that, as member or learner; otherwise it lacks what came before it."""
    released: bool
    """A majority of its members holds all that came before: those before them may go."""
    last: Index
    durable: Index
    commit: Index
    applied: Index
    fresh: Ns
    """What is applied here is no older than what was committed at this moment of our clock;
    ``FOREVER`` where that is always so, 0 where it was never."""
    matches: tuple[tuple[Nid, Index], ...]
    """How far others hold the log, members and learners, as far as this node has heard."""
    peers: dict[Nid, Peer]
    """Whom this node may send to, and where they are; besides those who came by themselves."""


class Step(msgspec.Struct, frozen=True, gc=False):
    """What the driver is to do now: send, write, restore, apply, answer."""

    send: tuple[tuple[Nid, PeerMessage], ...] = ()
    """Safe to send at once, in any order, any number of times, or never."""
    write: Write | None = None
    """The next of one stream of writes, numbered without gaps from 1 in each life of a node."""
    entries: tuple[Entry, ...] = ()
    """Newly committed, to be applied now, in this order, then told by ``applied``.  Only a batch
    that is not empty says anything."""
    done: tuple[Done, ...] = ()
    """The index of what is committed is among ``entries``."""
    reads: tuple[tuple[Token, Index], ...] = ()
    """To be served when this step is done: what they have to see was handed out by then."""
    reads_failed: tuple[Token, ...] = ()
    send_snapshot: tuple[tuple[Nid, Index], ...] = ()
    """Bring them the newest snapshot; answer with ``snapshot_sent``."""
    restore: Snap | None = None
    """Replace the state machine by this staged snapshot before applying anything."""
    status: MemberStatus | None = None
    """When role, leader, epoch or release changed; positions move without a notice."""
    retired: bool = False
    """This node was removed and nobody needs it any more: it may end."""

    @property
    def answers_first(self) -> bool:
        """Whether to apply and answer before anything is sent: a client waits for what is applied
        in no time, and the others can hear of that commit after it.
        """
        size = sum(len(entry.frame) for entry in self.entries)
        return self.write is None and 0 < size <= ANSWERED_FIRST_BYTES
