"""The native protocol's messages: what clients and a node say to each other.

Every message travels in a frame (``waypost.transport.frames``): a kind, an id, and one MessagePack
value as its body.  Requests carry an id that the answer repeats; a watch's id is on all its
events.  Structs are positional (``array_like``): fields are only ever appended, and a reader
ignores what it does not know, so old and new speak to each other.

``docs/protocol.md`` tells the same to those who write a client in another language.
"""

from typing import Final, Literal

import msgspec

from waypost.checks import CheckState
from waypost.commands import ClientCommand, Outcome
from waypost.model import (
    PLAIN_QUERY,
    Change,
    InstanceId,
    Query,
    Record,
    Revision,
    ServiceName,
    Source,
)

PROTOCOL_VERSION: Final = 1

# What a client asks.
HELLO: Final = 1
WRITE: Final = 2
ATTACH: Final = 3
DETACH: Final = 4
RESOLVE: Final = 5
LIST: Final = 6
WATCH: Final = 7
UNWATCH: Final = 8
SEEN: Final = 9
DRAIN: Final = 10
VERIFY: Final = 11
STATUS: Final = 12
CLUSTER: Final = 13
CHECKS: Final = 14

# Either side.
PING: Final = 16
PONG: Final = 17

# What a node answers and tells.
WELCOME: Final = 32
OUTCOMES: Final = 33
RESOLVED: Final = 34
SERVICES: Final = 35
SNAPSHOT: Final = 36
CHANGES: Final = 37
BOOKMARK: Final = 38
DRAINED: Final = 39
VERIFIED: Final = 40
STATE: Final = 41
GOING: Final = 42
FAULT: Final = 43
MOVED: Final = 44
MEMBERS: Final = 45
CHECKED: Final = 46

REQUEST_BYTES_MAX: Final = 1 << 20
"""The largest frame that a node takes from a client."""
ANSWER_BYTES_MAX: Final = 64 << 20
"""The largest frame that a client takes from a node."""
RECORDS_PER_SNAPSHOT_MAX: Final = 1_000
CHECKS_PER_ANSWER_MAX: Final = 1_000
COMMANDS_PER_WRITE_MAX: Final = 4096
WATCHES_PER_CONNECTION_MAX: Final = 10_000
SESSION_CHARS_MAX: Final = 64
CLIENT_CHARS_MAX: Final = 64
DRAIN_MS_MAX: Final = 600_000
PING_MS: Final = 1_000
"""How often a client lets its node hear from it, at least."""
DEADLINE_MS: Final = 5_000
"""Who has heard nothing for so long takes the connection for dead."""

Consistency = Literal["default", "linearizable"]


class Hello(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first frame of a client; its answer is ``Welcome``, or ``Fault`` and a close."""

    version: int
    agent: str = ""
    """What the client is, for people who look at ``waypost status``."""
    client: str = ""
    """Made up at random by each client process, and the same on all its connections: with it, the
    id of a WRITE tells it from all other writes of this client, and it is carried out once however
    often it comes."""


class Welcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The node's answer to ``Hello``."""

    version: int
    node: str
    cluster: str
    """Identifies the data set: a client's cached revisions mean nothing in another one."""
    revision: Revision
    ping_ms: int
    """How often a client should let the node hear from it, at least, and so hear from the node."""
    deadline_ms: int
    """A side that has heard nothing for so long closes the connection."""
    members: tuple[str, ...] = ()
    """The native addresses of all nodes of this registry; empty if it is the only one."""
    leader: str = ""
    """The name of the node that leads, as far as this one knows; empty if none does."""


class AttachSession(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Open a session on this connection, or move it here.  Answered by ``Attached``."""

    session: str
    ttl_ms: int
    """How long it outlives silence: the lease."""
    grace_ms: int
    """How long it outlives its broken connection."""


class Outcomes(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What became of a write or a detach, in the order of its commands.

    An outcome is the number that the command yields, or why it was refused.
    """

    revision: Revision
    outcomes: list[Outcome]


class Holding(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One instance that a session keeps alive."""

    service: ServiceName
    id: InstanceId
    incarnation: int


class Attached(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The answer to an attach: ``Outcomes``, and what the session holds."""

    revision: Revision
    outcomes: list[Outcome]
    holds: list[Holding] | None = None
    """As of ``revision`` or later; None if the node does not say."""


class Resolve(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Ask for the instances of a service.  Answered by ``Resolved``."""

    service: ServiceName
    query: Query = PLAIN_QUERY
    consistency: Consistency = "default"
    max_stale_ms: int = -1
    """Refuse (``too-stale``) rather than answer from older data; -1 sets no bound."""
    min_revision: Revision = 0
    """What this client has seen already: no answer may be older."""


class Resolved(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The answer to ``Resolve``, and how fresh it is."""

    revision: Revision
    age_ms: int
    source: Source
    known: bool
    """False if no instance of the service is registered at all."""
    records: list[Record]


class Services(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The answer to ``LIST``: every service, by name."""

    revision: Revision
    age_ms: int
    source: Source
    services: list["ServiceSummary"]


class Checked(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The answer to ``CHECKS``: those of a service's instances, and of the nodes they are on."""

    revision: Revision
    checks: list[CheckState]
    """The worst first, and no more than ``CHECKS_PER_ANSWER_MAX``."""
    count: int
    """How many there are."""


class ServiceSummary(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One service, in numbers."""

    service: ServiceName
    instances: int
    pickable: int
    revision: Revision
    """Of its latest change."""


class Watch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Ask for a service's changes, or with an empty name for all services'.

    With ``since`` at 0 a ``Snapshot`` comes first.  Otherwise the changes after that revision
    come first, or a ``Snapshot`` if the registry no longer remembers so far back.
    """

    service: ServiceName
    since: Revision = 0


class Snapshot(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Everything that is watched, as of one revision; replaces what the watcher held."""

    revision: Revision
    records: list[Record]
    more: bool = False
    """Whether this is a part, and the next one follows: what is watched is all parts together."""


class Changes(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What changed, up to and with this revision, in order."""

    revision: Revision
    changes: list[Change]


class Drain(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Take an instance out of new picks; answered once every watcher has seen it go."""

    service: ServiceName
    id: InstanceId
    deadline_ms: int = 10_000


class Drained(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How the drain went: with ``unseen`` at 0 nobody picks the instance any more."""

    revision: Revision
    watchers: int
    unseen: int
    """Watchers that had not confirmed by the deadline."""


class Verify(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Ask the node to connect to an instance's advertised address."""

    service: ServiceName
    id: InstanceId


class Verified(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Whether the node reached the address, and what to do if not."""

    reachable: bool
    why: str
    seen_as: str
    """The address that the asking connection comes from, as the node sees it."""


class NodeStatus(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """How a node is: the answer to ``STATUS``, and the body of ``/api/v1/status``."""

    node: str
    version: str
    cluster: str
    engine: str
    role: str
    leader: str
    epoch: int
    revision: Revision
    durable: bool
    writable: bool
    uptime_s: float
    services: int
    instances: int
    sessions: int
    connections: int
    watchers: int
    members: list[str]
    data_dir: str = ""
    released: bool = True
    """Whether a majority of the members holds all that came before their epoch."""
    age_ms: int = 0
    """How much older than the leader's state this node's may be."""


ClusterVerb = Literal["status", "add", "remove", "replace", "transfer", "switch"]


class ClusterAsk(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Ask about the members, or for other ones.  Answered by ``ClusterState``, when it is so."""

    verb: ClusterVerb
    name: str = ""
    """The node that is added, removed, replaced, or to lead."""
    other: str = ""
    """Who replaces it."""
    engine: str = ""
    """What to switch to."""
    settings: dict[str, str] = {}
    """What that engine needs to know."""


class MemberView(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One node of the cluster, as the one that was asked sees it."""

    name: str
    nid: int
    """The node id: drawn with the data directory."""
    address: str
    role: str
    """``leader``, ``follower``, ``learner``, or ``away`` if it is not heard."""
    votes: bool
    held: int
    """It is known to hold the log up to here; only a leader knows of the others."""
    heard_ms: int
    """How long ago it was last heard; 0 for the node itself, -1 for never."""


class ClusterState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The members, and where they stand: the answer to ``ClusterAsk``."""

    node: str
    """Who says so."""
    cluster: str
    engine: str
    epoch: int
    released: bool
    leader: str
    """Its name; empty if none is known."""
    last: int
    """Index of the last entry of the log."""
    commit: int
    members: list[MemberView]


class Fault(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Why a request failed: the code of an error in ``waypost.errors``, its words and its data."""

    code: str
    message: str
    field: str = ""
    retry_after: float = 0.0


encode = msgspec.msgpack.Encoder().encode
decode_hello = msgspec.msgpack.Decoder(Hello).decode
decode_welcome = msgspec.msgpack.Decoder(Welcome).decode
decode_write = msgspec.msgpack.Decoder(list[ClientCommand]).decode
decode_attach = msgspec.msgpack.Decoder(AttachSession).decode
decode_text = msgspec.msgpack.Decoder(str).decode
decode_number = msgspec.msgpack.Decoder(int).decode
decode_outcomes = msgspec.msgpack.Decoder(Outcomes).decode
decode_attached = msgspec.msgpack.Decoder(Attached).decode
decode_resolve = msgspec.msgpack.Decoder(Resolve).decode
decode_resolved = msgspec.msgpack.Decoder(Resolved).decode
decode_services = msgspec.msgpack.Decoder(Services).decode
decode_checked = msgspec.msgpack.Decoder(Checked).decode
decode_watch = msgspec.msgpack.Decoder(Watch).decode
decode_snapshot = msgspec.msgpack.Decoder(Snapshot).decode
decode_changes = msgspec.msgpack.Decoder(Changes).decode
decode_drain = msgspec.msgpack.Decoder(Drain).decode
decode_drained = msgspec.msgpack.Decoder(Drained).decode
decode_verify = msgspec.msgpack.Decoder(Verify).decode
decode_verified = msgspec.msgpack.Decoder(Verified).decode
decode_status = msgspec.msgpack.Decoder(NodeStatus).decode
decode_cluster_ask = msgspec.msgpack.Decoder(ClusterAsk).decode
decode_cluster_state = msgspec.msgpack.Decoder(ClusterState).decode
decode_fault = msgspec.msgpack.Decoder(Fault).decode
