"""What nodes say to each other about the log: the cores' messages, and what lies between epochs.

    InEpoch      a message between two members of one epoch, for their cores
    EpochKnown   the newest epoch that the sender knows of: a fact, whoever relays it
    AskEpoch     tell me the newest one
    Fetch        what is committed after here? asked by a node that has no core
    Fetched      the answer, now or as soon as there is more
    AskIndex     at which index may a linearizable read be served? asked by the same
    IndexAt      the answer

Positional MessagePack with integer tags: fields are only ever appended.  Messages may be lost,
doubled and overtaken; none says anything that is not durable, or that stops being true.
"""

import msgspec

from waypost.consensus.entry import Index, Nid, Ns
from waypost.consensus.epoch import Epoch
from waypost.consensus.messages import CoreMessage


class InEpoch(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """A core's message; its ballot says of which epoch."""

    lineage: int
    message: CoreMessage
    epoch: Epoch | None = None
    """That epoch, as long as the receiver has not been heard in it: so that a node that does not
    know of it yet starts and acts on the message in one step."""


class EpochKnown(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """The newest epoch that the sender knows of."""

    epoch: Epoch
    released: bool
    """An entry of it is committed: a majority of its members holds all that came before."""


class AskEpoch(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """Ask for ``EpochKnown``; the sender knows ``number``, 0: none."""

    lineage: int
    number: int


class Fetch(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """Ask for what is committed after ``commit``, and to be told of more as it comes."""

    lineage: int
    number: int
    """Of the newest epoch that the sender knows of."""
    commit: Index
    sent: Ns
    """The sender's clock, to be echoed; no other clock is compared with it."""
    has_voted: bool
    """The sender was a member once, or cannot tell: it must not be made one under this number."""
    epoch: Epoch | None = None
    """The epoch whose beginning the sender lacks: who holds its Seal learns that it committed."""


class Fetched(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """Committed entries after ``after``, none when nothing is new."""

    lineage: int
    number: int
    after: Index
    frames: tuple[bytes, ...]
    commit: Index
    """How far the sender has handed the log to its own state machine."""
    leader: Nid
    echo: Ns
    """``Fetch.sent`` of the newest one that the sender has: the answer is no older than that."""
    age: Ns
    """How old ``commit`` may have been when this left, by the sender's clock; -1: nobody knows."""
    released: bool


class AskIndex(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """Ask the leader where a read must stand to be linearizable; one number, many reads."""

    lineage: int
    number: int


class IndexAt(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """The answer to ``AskIndex``: index 0 is a refusal."""

    lineage: int
    number: int
    index: Index


PeerMessage = InEpoch | EpochKnown | AskEpoch | Fetch | Fetched | AskIndex | IndexAt

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[PeerMessage] = msgspec.msgpack.Decoder(PeerMessage)


def encode_message(message: PeerMessage) -> bytes:
    """Make the bytes of a message."""
    return _encoder.encode(message)


def decode_message(data: bytes | memoryview) -> PeerMessage:
    """Read a message; raises ``msgspec.MsgspecError`` for what is none."""
    return _decoder.decode(data)
