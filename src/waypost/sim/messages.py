"""What travels through the simulated network: peers' messages, snapshots, and clients' requests."""

import msgspec

from waypost.consensus.core import Index, Nid, Ns, Snap
from waypost.consensus.epoch import Epoch
from waypost.replica.peer_messages import PeerMessage
from waypost.sim.checkers.history import Instances
from waypost.sim.plan import TaskKind


class Letter(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message between two nodes."""

    source: Nid
    target: Nid
    """If the machine has become another node since, it is not for it."""
    message: PeerMessage


class Parcel(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A whole snapshot, outside of the log."""

    source: Nid
    target: Nid
    snap: Snap
    data: bytes
    epoch: Epoch


class Receipt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A snapshot arrived whole."""

    source: Nid
    target: Nid
    index: Index


class Request(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A client's call; a repetition is the same but for its attempt."""

    client: int
    seq: int
    attempt: int
    kind: TaskKind
    part: bytes
    """Of a write: its commands."""
    subject: str
    """The service, or the key, that it is about."""
    seen: Index
    """Of a read: not older than this."""
    stale: Ns
    """Of a read: by how much it may be out of date."""


class Reply(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a node answers."""

    client: int
    seq: int
    attempt: int
    what: str
    """``done``; ``refused``: certainly without effect; ``unknown``."""
    index: Index = 0
    result: str = ""
    """Of a write: what came of its commands.  Of a read of a key: its value."""
    instances: Instances = ()
    revision: int = 0
    """Of a read of a key; 0 where there is none."""
    leader: Nid = 0
    """Whom to ask instead."""
