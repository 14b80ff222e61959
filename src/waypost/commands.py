"""What may be proposed to the log, and what comes of it.

A log entry is a ``LogBatch``: the leader's stamp and the commands of many connections, each
connection's part as bytes, encoded once.  The layout is positional MessagePack
(``array_like``, integer tags), so old logs stay readable as long as fields are only appended.

Always true: every command that decodes can be applied; a refusal is an ``Outcome``, never an
exception that would stop the log.  Time and chance are not here: what needs time when applied
uses the stamp of its batch (cluster time in milliseconds, chosen by the leader).
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from waypost.checks import (
    Check,
    CheckStatus,
    NodeEntry,
    NodeName,
)
from waypost.model import Health, Instance, InstanceId, ServiceName, SessionId


class Register(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Make an instance known, or known anew, and tie its life to a session.

    With incarnation 0 it takes the id over from whoever holds it.  With the incarnation that it
    was given before it refreshes its own entry, and is refused as superseded if a newer one holds
    the id.  Yields the incarnation that it now has.
    """

    instance: Instance
    session: SessionId = ""
    health: Health = "passing"
    why: str = ""


class Deregister(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Remove an instance.  With an incarnation, only that life of it.  Yields 0."""

    service: ServiceName
    id: InstanceId
    incarnation: int = 0


class SetHealth(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """Say how an instance is, and why.  ``draining`` takes it out of new picks.  Yields 0."""

    service: ServiceName
    id: InstanceId
    health: Health
    why: str = ""
    incarnation: int = 0


class Attach(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """Open a session at a node, or move it there.  Yields the attachment, which fences older ones.

    All that the session holds stops being suspect.
    """

    session: SessionId
    node: str
    ttl_ms: int
    grace_ms: int


class Detach(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """End a session cleanly: all that it holds is deregistered at once.  Yields 0."""

    session: SessionId


class Suspect(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """The session's connection broke: what it holds leaves resolution before the grace decides.

    Does nothing when the session has attached anew since.
    """

    session: SessionId
    attachment: int


class Expire(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """The session's lease is over: what it holds is evicted, within the service's eviction rate.

    What exceeds the rate stays as suspect.  Does nothing when the session has attached anew since.
    """

    session: SessionId
    attachment: int
    why: str = ""


class Sweep(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    """Evict suspects without a session, as many as each service's eviction rate now allows."""


class PutKey(msgspec.Struct, frozen=True, array_like=True, tag=32, gc=False):
    """Set a key, if every condition holds that is named.  Yields 1, or 0 if one does not hold.

    ``cas`` is the revision that the key must have, 0 for one that must not exist, negative for any.
    Who acquires becomes the holder of a key that nobody else holds; who releases must be it.
    """

    key: str
    value: bytes
    flags: int = 0
    cas: int = -1
    acquire: str = ""
    release: str = ""


class DropKey(msgspec.Struct, frozen=True, array_like=True, tag=33, gc=False):
    """Remove a key, or all that begin with it.  Yields 1, or 0 if ``cas`` is not its revision.

    What is not there is removed already.
    """

    key: str
    is_prefix: bool = False
    cas: int = -1


class OpenHolder(msgspec.Struct, frozen=True, array_like=True, tag=34, gc=False):
    """Open a holder of keys.  Yields its revision.

    One with a lease lives as long as the session that ``session_of`` names, which is open already.
    """

    id: str
    name: str
    node: str
    ttl_ms: int
    behavior: Literal["release", "delete"]
    lock_delay_ms: int
    node_checks: tuple[str, ...] = ()
    service_checks: tuple[str, ...] = ()


class CloseHolder(msgspec.Struct, frozen=True, array_like=True, tag=35, gc=False):
    """End a holder: its keys are released or removed, as it said.  Yields 1, or 0 if unknown."""

    id: str


class ReadKey(msgspec.Struct, frozen=True, array_like=True, tag=37, gc=False):
    """Within a transaction: read a key, which must exist, or all that begin with it."""

    key: str
    is_prefix: bool = False
    may_miss: bool = False


class CheckKey(msgspec.Struct, frozen=True, array_like=True, tag=38, gc=False):
    """Within a transaction: a key must have that revision, or that holder; or must not exist."""

    key: str
    revision: int = -1
    holder: str | None = None


class OnNode(msgspec.Struct, frozen=True, array_like=True, tag=40, gc=False):
    """Within a transaction: read a node, set its entry, or remove it and all that is on it.

    ``cas`` as for a key.  ``is_server``: it is there, even if nobody registered it.
    """

    verb: Literal["get", "set", "delete"]
    entry: NodeEntry
    cas: int = -1
    is_server: bool = False


class OnService(msgspec.Struct, frozen=True, array_like=True, tag=41, gc=False):
    """Within a transaction: the instance on a node that has one of these ids, in any service.

    Set, it is ``instance`` from then on: under the id that it has, or else under that one's.
    """

    verb: Literal["get", "set", "delete"]
    node: NodeName
    ids: tuple[InstanceId, ...]
    instance: Instance | None = None
    cas: int = -1
    is_server: bool = False


class OnCheck(msgspec.Struct, frozen=True, array_like=True, tag=42, gc=False):
    """Within a transaction: the check with that id, of a node or of what is on it.

    Set, it belongs to the instance with one of these ids, or to the node if there are none.
    """

    verb: Literal["get", "set", "delete"]
    node: NodeName
    check: Check
    ids: tuple[InstanceId, ...] = ()
    status: CheckStatus = "critical"
    output: str = ""
    cas: int = -1
    is_server: bool = False


KeyOperation = PutKey | DropKey | ReadKey | CheckKey
Operation = KeyOperation | OnNode | OnService | OnCheck
"""What a transaction is made of."""


class Transact(msgspec.Struct, frozen=True, array_like=True, tag=36, gc=False):
    """Do all of the operations, or none.  Yields bytes: a ``transacting.Transacted``."""

    operations: list[Operation]


class FireEvent(msgspec.Struct, frozen=True, array_like=True, tag=39, gc=False):
    """Tell of an event; the latest ones are kept.  Yields its number."""

    id: str
    name: str
    payload: bytes = b""
    node: str = ""
    service: str = ""
    tag: str = ""


KeyCommand = PutKey | DropKey | OpenHolder | CloseHolder | FireEvent
"""What is done to keys, and to those who hold them; no client sends these with an origin."""


class PutCheck(msgspec.Struct, frozen=True, array_like=True, tag=9, gc=False):
    """Give an instance, or a node (then ``service`` is empty), a check, or replace one.  Yields 0.

    Without a status a check that is known keeps its own, and a new one is critical.
    """

    service: ServiceName
    id: InstanceId
    node: NodeName
    check: Check
    status: CheckStatus | Literal[""] = ""
    output: str = ""


class DropCheck(msgspec.Struct, frozen=True, array_like=True, tag=10, gc=False):
    """Take a check away from an instance, or from a node.  Yields 0."""

    service: ServiceName
    id: InstanceId
    node: NodeName
    check_id: str


class ReportCheck(msgspec.Struct, frozen=True, array_like=True, tag=11, gc=False):
    """Say what a check found.  Yields 0; what says nothing new changes nothing."""

    service: ServiceName
    id: InstanceId
    node: NodeName
    check_id: str
    status: CheckStatus
    output: str = ""


class PutNode(msgspec.Struct, frozen=True, array_like=True, tag=12, gc=False):
    """Register a node, or replace what is known of it.  Yields 0."""

    entry: NodeEntry


class DropNode(msgspec.Struct, frozen=True, array_like=True, tag=13, gc=False):
    """Forget a node and its checks; the instances on it stay.  Yields 0."""

    node: NodeName


class ReapCheck(msgspec.Struct, frozen=True, array_like=True, tag=14, gc=False):
    """Deregister an instance whose check is critical since then; for the check's owner to say.

    Yields 1, or 0 if the check was anything else meanwhile.
    """

    service: ServiceName
    id: InstanceId
    check_id: str
    since_ms: int


class RegisterChecked(msgspec.Struct, frozen=True, array_like=True, tag=15, gc=False):
    """Register an instance with exactly these checks of its own, in one: nobody sees it without.

    One that looks at what it looked at before keeps what was found; a new one is critical.  Yields
    what ``Register`` does.
    """

    register: Register
    checks: tuple[Check, ...]


CheckCommand = PutCheck | DropCheck | ReportCheck | PutNode | DropNode
Command = (
    Register
    | Deregister
    | SetHealth
    | Attach
    | Detach
    | Suspect
    | Expire
    | Sweep
    | RegisterChecked
    | CheckCommand
    | ReapCheck
    | KeyCommand
    | Transact
)
ClientCommand = Register | Deregister | SetHealth | RegisterChecked | CheckCommand
"""What a client may put into a write; the others are for the node that owns its session."""


class Refused(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Why a command had no effect: the code of an error in ``waypost.errors``, and its words."""

    code: str
    message: str


Outcome = int | Refused | bytes
"""What a command yields (see each; bytes, of a transaction alone), or why it was refused."""


class Origin(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Which write of which client a part of a batch is, so that its repetition is recognised.

    A client takes its id at random, once for a process, and gives each number to one write only,
    the higher the later.
    """

    client: str
    seq: int


class LogBatch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The payload of one log entry."""

    stamp_ms: int
    parts: list[list[Command]]
    origins: list[Origin | None] = []
    """One for each part, or none at all."""


_batch_decoder = msgspec.msgpack.Decoder(LogBatch)
_part_decoder = msgspec.msgpack.Decoder(list[Command])
_encoder = msgspec.msgpack.Encoder()


def encode_batch(stamp_ms: int, parts: list[bytes], origins: Sequence[Origin | None] = ()) -> bytes:
    """Build an entry's payload around parts that are encoded already, each as an array.

    Give no origins at all where no part has one.
    """
    stamp, head = _encoder.encode(stamp_ms), _array_head(len(parts))
    if not origins:
        return b"".join((b"\x92", stamp, head, *parts))
    assert len(origins) == len(parts)
    return b"".join((b"\x93", stamp, head, *parts, _encoder.encode(origins)))


def encode_part(commands: list[Command]) -> bytes:
    """Encode one part of a batch, as a client does."""
    return _encoder.encode(commands)


def decode_part(part: bytes | memoryview) -> list[Command]:
    """Read one part of a batch back."""
    return _part_decoder.decode(part)


def decode_batch(payload: bytes | memoryview) -> LogBatch:
    """Read an entry's payload back; what ``encode_batch`` made always decodes."""
    return _batch_decoder.decode(payload)


def _array_head(count: int) -> bytes:
    """MessagePack's array header (msgpack spec, "array format family")."""
    if count < 16:
        return bytes((0x90 | count,))
    if count < 65_536:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")
