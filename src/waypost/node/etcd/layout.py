"""The keys of one epoch's log in etcd, what is in them, and what makes the order.

Everything of an epoch is below ``P``, which names the cluster, the lineage and a digest of the Seal
before: another registry, an old test or a forced epoch never meets it.

    P/init            what the log begins with: the index s before it, and a digest of the state
    P/head            the ulid of the newest entry; its *version* counts the entries
    P/log/<ulid>      an entry: its kind in one byte, then its payload
    P/owner/<node>    the ulid of that node's newest entry; its version counts them
    P/seal            the Seal's payload: no entry after it
    P/chunk/<ulid>/k  the state at s, in chunks
    P/snap/<ulid>/k   a later state, in chunks
    P/snaphead        which of them, and up to which entry
    P/alive/<node>    leased: the nodes that live
    P/expirer         leased: the one that expires the sessions of those that do not

*The index of an entry is ``s + version(P/head) - 1``*: making the layout puts the head once (that
is s), and each entry puts it once more.  So indexes are contiguous, the same at every node, and go
on where an earlier epoch ended, which no revision of etcd does.  The head is never deleted.

``<root>/current`` names the newest epoch, for nodes that know nothing but the prefix.
"""

import hashlib
import secrets
import time
from collections.abc import Iterable
from typing import Final, TypeVar

import msgspec

from waypost.consensus.entry import Ballot
from waypost.consensus.epoch import Epoch, Proposed, encode_proposed
from waypost.errors import CorruptData
from waypost.node.etcd.rpc import Event, KeyValue

CHUNK_BYTES: Final = 1_000_000
"""Of a value; etcd takes requests of 1.5 MiB unless it is told otherwise."""
BATCH_BYTES_MAX: Final = 1_400_000
FORMAT: Final = 1
_T = TypeVar("_T")
_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Keys:
    """The keys below one ``P``."""

    def __init__(self, prefix: str) -> None:
        p = prefix.encode()
        self.prefix = prefix
        self.init = p + b"/init"
        self.head = p + b"/head"
        self.log = p + b"/log/"
        self.log_end = p + b"/log0"
        """The range [head, log_end) holds head, init and log, and none of the bulk."""
        self.seal = p + b"/seal"
        self.chunk = p + b"/chunk/"
        self.snap = p + b"/snap/"
        self.snaphead = p + b"/snaphead"
        self.alive = p + b"/alive/"
        self.alive_end = p + b"/alive0"
        self.expirer = p + b"/expirer"
        self._owner = p + b"/owner/"

    def entry(self, ulid: bytes) -> bytes:
        """Of an entry."""
        return self.log + ulid

    def owner(self, node: str) -> bytes:
        """Of a node that writes."""
        return self._owner + node.encode()

    def living(self, node: str) -> bytes:
        """Of a node that lives."""
        return self.alive + node.encode()


def ballot_in(epoch: Epoch) -> Ballot:
    """Of every entry of an epoch in etcd: there is one ballot, and it is etcd's."""
    return Ballot(epoch.number, 1, 0)


def current_key(root: str) -> bytes:
    """Where the newest epoch is named."""
    return f"{root.rstrip('/')}/current".encode()


def keys_of(root: str, cluster: str, epoch: Epoch) -> Keys:
    """The keys of an epoch."""
    payload = encode_proposed(
        Proposed(epoch.number, epoch.engine, epoch.members, epoch.first_leader, epoch.settings)
    )
    seal = msgspec.msgpack.encode((epoch.first - 1, epoch.seal_ballot, payload))
    digest = hashlib.sha256(seal).hexdigest()[:16]
    return Keys(f"{root.rstrip('/')}/{cluster}/{epoch.lineage:016x}/{epoch.number}-{digest}")


class Current(msgspec.Struct, frozen=True):
    """The value of ``<root>/current``."""

    format: int
    cluster: str
    epoch: bytes


class Init(msgspec.Struct, frozen=True):
    """The value of ``P/init``."""

    format: int
    s: int
    seal_ballot: Ballot
    digest: str
    """Of the state at s: its chunks, hashed."""
    ulid: str
    """Of the attempt whose chunks count."""
    chunks: int
    cluster_id: str
    """Of the etcd that this was written to: a restored or swapped one has another."""
    uploader: str
    chain: int = 0
    """Of the entry at s: what the first entry's ``prev`` is, in a node's copy of the log."""


class SnapHead(msgspec.Struct, frozen=True):
    """The value of ``P/snaphead``."""

    index: int
    version: int
    mod_revision: int
    ulid: str
    chunks: int
    digest: str
    bytes: int
    chain: int = 0
    """Of the entry at ``index``, as in ``Init``."""


class LogEntry(msgspec.Struct, frozen=True, gc=False):
    """An entry where etcd has put it."""

    version: int
    mod_revision: int
    ulid: bytes
    kind: int
    payload: bytes


def new_ulid() -> bytes:
    """Draw a ulid (github.com/ulid/spec): 48 bits of time, 80 of chance, in Crockford's base 32."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return "".join(_CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5)).encode()


def encode_entry(kind: int, payload: bytes) -> bytes:
    """Make the value of an entry's key."""
    return bytes((kind,)) + payload


def entries_in(keys: Keys, events: list[Event]) -> Iterable[LogEntry]:
    """Put together what each transaction put: its head, and its entry, at one revision."""
    entries = {
        event.kv.mod_revision: event.kv
        for event in events
        if event.kv.key.startswith(keys.log) and not event.is_delete
    }
    for event in events:
        head = event.kv
        if head.key == keys.head and head.version > 1:
            entry = entries.get(head.mod_revision)
            if entry is None or entry.key != keys.entry(head.value):
                raise CorruptData(
                    f"etcd: {keys.prefix}/head moved at revision {head.mod_revision} without an "
                    "entry: somebody else writes below the prefix; find out who"
                )
            yield at(keys, entry, head.version)


def at(keys: Keys, kv: KeyValue, version: int) -> LogEntry:
    """Read the key of an entry, of which the head's version is known."""
    if not kv.value:
        raise CorruptData(f"etcd: {kv.key.decode()} is empty: somebody else wrote it")
    ulid = kv.key[len(keys.log) :]
    return LogEntry(version, kv.mod_revision, ulid, kv.value[0], kv.value[1:])


def decoded(value: bytes, kind: type[_T], key: bytes) -> _T:
    """Read a value that people may read too."""
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.MsgspecError as error:
        raise CorruptData(
            f"etcd: {key.decode()} cannot be read ({error}): another program's, or a newer "
            "version's; choose another prefix, or upgrade"
        ) from None
