"""An epoch: for how long the members and the protocol of the log stay what they are.

Membership and engine change by sealing the log (compare Stoppable Paxos, Lamport, Malkhi and Zhou
2008; StopSign of OmniPaxos, EuroSys 2023; the virtual log of Delos, OSDI 2020): a Seal entry names
the next epoch, and when it commits at index s, nothing after s in its own epoch is ever applied,
and the next epoch goes on at s + 1 with a fresh core.

An ``Epoch`` is a *fact*: it is only ever made from a committed Seal (or is the first one of a
cluster), so anyone may relay it, any number of times, durable or not.  Epochs of another lineage
are another history and never mixed with this one.
"""

import msgspec

from waypost.consensus.entry import NO_BALLOT, Ballot, Index, Nid


class Peer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A node by its name and where its native port is, as the others reach it."""

    name: str
    address: str
    """``host:port``; empty for a node that nobody needs to reach: a cluster of one."""


class Proposed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The payload of a Seal: the next epoch, but for what follows from where the Seal lies."""

    number: int
    engine: str
    """``local``, ``raft``, ``paxos`` or ``etcd``."""
    members: dict[Nid, Peer]
    first_leader: Nid
    """Leads ballot (number, 1, first_leader) without an election; 0 for nobody."""
    settings: dict[str, str] = {}
    """What the engine needs to know: the endpoints and the prefix of an etcd."""


class Epoch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One epoch of the log."""

    lineage: int
    """Of the history: drawn with the cluster, and anew when an operator forces an epoch."""
    number: int
    engine: str
    members: dict[Nid, Peer]
    """Who votes.  Empty never happens; a node that is not named follows as a learner."""
    first: Index
    """Index of the epoch's first entry: that of the Seal before it, and one."""
    first_leader: Nid = 0
    seal_ballot: Ballot = NO_BALLOT
    """Of the Seal before it; with ``first - 1`` its identity.  ``NO_BALLOT`` in a first epoch."""
    sources: dict[Nid, Peer] = {}
    """The members of the epoch before: whoever joins fetches the tail from them."""
    settings: dict[str, str] = {}

    @property
    def first_ballot(self) -> Ballot:
        """What every member has promised from the start: to the first leader, and to no other."""
        leads = 1 if self.first_leader else 0
        return Ballot(self.number, leads, self.first_leader)


_encoder = msgspec.msgpack.Encoder()
_proposed_decoder = msgspec.msgpack.Decoder(Proposed)
_epoch_decoder = msgspec.msgpack.Decoder(Epoch)


def encode_proposed(proposed: Proposed) -> bytes:
    """Make the payload of a Seal."""
    return _encoder.encode(proposed)


def decode_proposed(payload: bytes | memoryview) -> Proposed:
    """Read the payload of a Seal."""
    return _proposed_decoder.decode(payload)


def encode_epoch(epoch: Epoch) -> bytes:
    """Encode an epoch, for disk."""
    return _encoder.encode(epoch)


def decode_epoch(payload: bytes | memoryview) -> Epoch:
    """Read an epoch back."""
    return _epoch_decoder.decode(payload)


def after(epoch: Epoch, seal: Index, ballot: Ballot, proposed: Proposed) -> Epoch:
    """The epoch that the Seal ``proposed``, committed at index ``seal``, begins."""
    assert proposed.number == epoch.number + 1, "a Seal names the epoch after its own"
    return Epoch(
        epoch.lineage,
        proposed.number,
        proposed.engine,
        proposed.members,
        seal + 1,
        proposed.first_leader,
        ballot,
        epoch.members,
        proposed.settings,
    )
