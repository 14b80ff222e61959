"""What members say to each other on the native port, beside the messages of their log.

The kind of the first frame tells a member (``PEER_HELLO``) and a machine that is still looking for
its cluster (``GENESIS``) from a client (``waypost.wire.HELLO``).  Each member dials each other one,
and speaks only on the connection that it dialled: so a pair has two, one for each direction, and
after its welcome the accepting side says nothing on it.

Positional MessagePack, as everywhere: fields are only ever appended.
"""

from typing import Final

import msgspec

from waypost.commands import Origin, Outcome

PEER_VERSION: Final = 1
PEER_BYTES_MAX: Final = 96 << 20
"""The largest frame between members: one entry of the largest payload, and its company."""

# How a connection begins.
PEER_HELLO: Final = 64
PEER_WELCOME: Final = 65
GENESIS: Final = 66
GENESIS_TOLD: Final = 67

# On a connection between members.
PEER_PING: Final = 72
MEMBER: Final = 73
FORWARD: Final = 74
FORWARDED: Final = 75
FORWARD_FAILED: Final = 76
CALL: Final = 77
CALL_ANSWER: Final = 78
CALL_FAULT: Final = 79
STREAM_BEGIN: Final = 80
STREAM_WANT: Final = 81
STREAM_CHUNK: Final = 82
STREAM_END: Final = 83
STREAM_DONE: Final = 84


class PeerHello(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who dials, and its welcome: who answers."""

    version: int
    cluster: str
    lineage: int
    nid: int
    name: str
    nonce: int
    """Of this run of the process: the same nid with another one is a second process."""
    address: str
    """Where the others reach its native port, as ``host:port``."""
    wants: int = 0
    """Whom it dials: another node may be at that address now."""


class Genesis(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A machine without a cluster asks another one what it knows."""

    version: int
    nid: int
    name: str
    address: str
    names: list[str]
    """Of all machines of its ``--cluster`` line; empty for one that only wants to join."""


class GenesisTold(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The answer: who is asked, and the cluster that it belongs to, if it does."""

    version: int
    nid: int
    name: str
    cluster: str = ""
    """Empty as long as there is none."""
    epoch: bytes = b""
    """The newest that it knows; with a cluster and without this, it has none yet itself."""
    released: bool = False
    addresses: dict[int, str] = {}
    """Where nodes are, by their ids: a node that was alone has no address in its epoch."""


class Forward(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Writes that came to a node that does not lead, as their doors encoded them."""

    token: int
    parts: list[bytes]
    origins: list[Origin | None]
    """Parallel to ``parts``; empty if none has one."""


class Forwarded(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """They were committed; the asker answers when it has applied ``index`` itself."""

    token: int
    index: int
    outcomes: list[list[Outcome]]
    revisions: list[int] = []
    """Parallel to ``outcomes`` where one of them was given earlier; else all are ``index``."""


class ForwardFailed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """They were refused, or their fate is unknown (``timed-out``)."""

    token: int
    code: str
    message: str


class Call(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A question that has one answer: the verbs are told in ``waypost.node.calls``."""

    token: int
    verb: str
    body: bytes = b""


class CallAnswer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The answer to a ``Call``."""

    token: int
    body: bytes = b""


class CallFault(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Why a ``Call`` failed: code and words of an error."""

    token: int
    code: str
    message: str
    field: str = ""


class StreamBegin(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A snapshot is offered: what it stands for, and the epoch that holds after it."""

    stream: int
    index: int
    ballot: tuple[int, int, int]
    kind: int
    chain: int
    epoch: bytes


class StreamWant(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The taker has everything below ``offset``; also the acknowledgement of each chunk."""

    stream: int
    offset: int


class StreamChunk(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Bytes of the snapshot's content."""

    stream: int
    offset: int
    crc: int
    data: bytes


class StreamEnd(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """That was all of it."""

    stream: int
    size: int
    digest: bytes
    """SHA-256 of all bytes."""


class StreamDone(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The taker has verified it and put it into place; or it will not have it."""

    stream: int
    ok: bool
    why: str = ""


encode = msgspec.msgpack.Encoder().encode
decode_peer_hello = msgspec.msgpack.Decoder(PeerHello).decode
decode_genesis = msgspec.msgpack.Decoder(Genesis).decode
decode_genesis_told = msgspec.msgpack.Decoder(GenesisTold).decode
decode_forward = msgspec.msgpack.Decoder(Forward).decode
decode_forwarded = msgspec.msgpack.Decoder(Forwarded).decode
decode_forward_failed = msgspec.msgpack.Decoder(ForwardFailed).decode
decode_call = msgspec.msgpack.Decoder(Call).decode
decode_call_answer = msgspec.msgpack.Decoder(CallAnswer).decode
decode_call_fault = msgspec.msgpack.Decoder(CallFault).decode
decode_stream_begin = msgspec.msgpack.Decoder(StreamBegin).decode
decode_stream_want = msgspec.msgpack.Decoder(StreamWant).decode
decode_stream_chunk = msgspec.msgpack.Decoder(StreamChunk).decode
decode_stream_end = msgspec.msgpack.Decoder(StreamEnd).decode
decode_stream_done = msgspec.msgpack.Decoder(StreamDone).decode
