"""The messages of etcd's v3 API that this engine says and hears.

Requests are functions that give bytes; answers are structs read from bytes.  Field numbers are
those of etcd's ``rpc.proto`` and ``kv.proto`` (api/etcdserverpb, api/mvccpb), which are stable
across 3.x.  grpcio carries bytes as they are, so neither protobuf's runtime nor generated code is
needed for these dozen messages.
"""

from typing import Final

import msgspec

from waypost.node.etcd.protobuf import chosen, fields, message, number, octets

TXN: Final = "/etcdserverpb.KV/Txn"
RANGE: Final = "/etcdserverpb.KV/Range"
DELETE: Final = "/etcdserverpb.KV/DeleteRange"
WATCH: Final = "/etcdserverpb.Watch/Watch"
GRANT: Final = "/etcdserverpb.Lease/LeaseGrant"
REVOKE: Final = "/etcdserverpb.Lease/LeaseRevoke"
KEEP_ALIVE: Final = "/etcdserverpb.Lease/LeaseKeepAlive"
STATUS: Final = "/etcdserverpb.Maintenance/Status"
ALARM: Final = "/etcdserverpb.Maintenance/Alarm"
AUTHENTICATE: Final = "/etcdserverpb.Auth/Authenticate"

_EQUAL = 0
_GREATER = 1
_VERSION = 0
_CREATE = 1
_MOD = 2


class KeyValue(msgspec.Struct, frozen=True, gc=False):
    """A key as it is or was; one that does not exist has ``create_revision`` 0."""

    key: bytes = b""
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0
    """1 when created, and one more with each put since."""
    value: bytes = b""


ABSENT: Final = KeyValue()


class Header(msgspec.Struct, frozen=True, gc=False):
    """What every answer begins with."""

    cluster_id: int = 0
    member_id: int = 0
    revision: int = 0


class RangeAnswer(msgspec.Struct, frozen=True):
    """Keys of a range, as of ``header.revision`` or the revision asked for."""

    header: Header
    kvs: list[KeyValue]
    more: bool

    @property
    def one(self) -> KeyValue:
        """The only key that was asked for; ``ABSENT`` if it is not there."""
        return self.kvs[0] if self.kvs else ABSENT


class TxnAnswer(msgspec.Struct, frozen=True):
    """Whether the compares held, and what the ranges of the branch taken found."""

    header: Header
    succeeded: bool
    ranges: list[RangeAnswer]


class Event(msgspec.Struct, frozen=True, gc=False):
    """One change that a watch saw."""

    is_delete: bool
    kv: KeyValue


class WatchAnswer(msgspec.Struct, frozen=True):
    """Some changes, in order; changes of one revision are never split over two answers."""

    header: Header
    watch_id: int
    created: bool
    canceled: bool
    compact_revision: int
    """Above 0: what the watch was to begin with has been compacted away."""
    cancel_reason: str
    events: list[Event]


# Requests


def version_is(key: bytes, version: int) -> bytes:
    """Compare: the key has been put so many times since it was created."""
    return number(1, _EQUAL) + number(2, _VERSION) + octets(3, key) + chosen(4, version)


def created_at(key: bytes, revision: int) -> bytes:
    """Compare: the key was created at ``revision``; 0: it does not exist."""
    return number(1, _EQUAL) + number(2, _CREATE) + octets(3, key) + chosen(5, revision)


def exists(key: bytes) -> bytes:
    """Compare: the key exists."""
    return number(1, _GREATER) + number(2, _CREATE) + octets(3, key) + chosen(5, 0)


def modified_at(key: bytes, revision: int) -> bytes:
    """Compare: the key was last put at ``revision``; 0: it does not exist."""
    return number(1, _EQUAL) + number(2, _MOD) + octets(3, key) + chosen(6, revision)


def range_request(
    key: bytes,
    end: bytes = b"",
    *,
    limit: int = 0,
    revision: int = 0,
    min_mod_revision: int = 0,
    max_mod_revision: int = 0,
    keys_only: bool = False,
) -> bytes:
    """Ask for a key, or the keys in [key, end); linearizable."""
    return (
        octets(1, key)
        + octets(2, end)
        + number(3, limit)
        + number(4, revision)
        + number(8, keys_only)
        + number(10, min_mod_revision)
        + number(11, max_mod_revision)
    )


def get(key: bytes, end: bytes = b"") -> bytes:
    """Operation: read a key, or a range."""
    return message(1, range_request(key, end))


def put(key: bytes, value: bytes, lease: int = 0) -> bytes:
    """Operation: put a key."""
    return message(2, octets(1, key) + octets(2, value) + number(3, lease))


def delete(key: bytes, end: bytes = b"") -> bytes:
    """Operation: delete a key, or a range."""
    return message(3, delete_request(key, end))


def delete_request(key: bytes, end: bytes = b"") -> bytes:
    """Delete a key, or the keys in [key, end)."""
    return octets(1, key) + octets(2, end)


def txn(compares: list[bytes], success: list[bytes], failure: list[bytes]) -> bytes:
    """If all compares hold do all of ``success``, else all of ``failure``; at one revision."""
    return b"".join(
        (
            *(message(1, each) for each in compares),
            *(message(2, each) for each in success),
            *(message(3, each) for each in failure),
        )
    )


def watch_request(key: bytes, end: bytes, start_revision: int, *, puts_only: bool = False) -> bytes:
    """Watch [key, end) from a revision on."""
    create = octets(1, key) + octets(2, end) + number(3, start_revision)
    create += chosen(5, 1) if puts_only else b""  # FilterType.NODELETE
    return message(1, create)


def grant_request(ttl_s: int) -> bytes:
    """Ask for a lease."""
    return number(1, ttl_s)


def lease_request(lease: int) -> bytes:
    """Revoke a lease, or keep it alive."""
    return number(1, lease)


def authenticate_request(user: str, password: str) -> bytes:
    """Ask for a token."""
    return octets(1, user.encode()) + octets(2, password.encode())


# Answers


def parse_range(encoded: bytes) -> RangeAnswer:
    """Read the answer to ``RANGE``."""
    header, kvs, more = Header(), list[KeyValue](), False
    for field, value, raw in fields(encoded):
        if field == 1:
            header = _header(raw)
        elif field == 2:
            kvs.append(_key_value(raw))
        elif field == 3:
            more = bool(value)
    return RangeAnswer(header, kvs, more)


def parse_txn(encoded: bytes) -> TxnAnswer:
    """Read the answer to ``TXN``."""
    header, succeeded, ranges = Header(), False, list[RangeAnswer]()
    for field, value, raw in fields(encoded):
        if field == 1:
            header = _header(raw)
        elif field == 2:
            succeeded = bool(value)
        elif field == 3:
            ranges += [parse_range(each) for kind, _, each in fields(raw) if kind == 1]
    return TxnAnswer(header, succeeded, ranges)


def parse_watch(encoded: bytes) -> WatchAnswer:
    """Read one answer of ``WATCH``."""
    header, watch_id, created, canceled, compacted, reason = Header(), 0, False, False, 0, ""
    events: list[Event] = []
    for field, value, raw in fields(encoded):
        if field == 11:
            events.append(_event(raw))
        elif field == 1:
            header = _header(raw)
        elif field == 2:
            watch_id = value
        elif field == 3:
            created = bool(value)
        elif field == 4:
            canceled = bool(value)
        elif field == 5:
            compacted = value
        elif field == 6:
            reason = raw.decode(errors="replace")
    return WatchAnswer(header, watch_id, created, canceled, compacted, reason, events)


def parse_lease(encoded: bytes) -> tuple[int, int]:
    """Read the answer to ``GRANT`` or ``KEEP_ALIVE``: the lease, and its seconds (0: over)."""
    lease = ttl_s = 0
    for field, value, _ in fields(encoded):
        if field == 2:
            lease = value
        elif field == 3:
            ttl_s = value
    return lease, ttl_s


def parse_status(encoded: bytes) -> tuple[str, int]:
    """Read the answer to ``STATUS``: etcd's version, and the bytes of its database."""
    version, size = "", 0
    for field, value, raw in fields(encoded):
        if field == 2:
            version = raw.decode(errors="replace")
        elif field == 3:
            size = value
    return version, size


def parse_alarms(encoded: bytes) -> list[int]:
    """Read the answer to ``ALARM``: the kinds that are raised (1 no space, 2 corrupt)."""
    return [
        value
        for field, _, raw in fields(encoded)
        if field == 2
        for kind, value, _ in fields(raw)
        if kind == 2
    ]


def parse_token(encoded: bytes) -> str:
    """Read the answer to ``AUTHENTICATE``."""
    return next((raw.decode() for field, _, raw in fields(encoded) if field == 2), "")


def _header(encoded: bytes) -> Header:
    cluster = member = revision = 0
    for field, value, _ in fields(encoded):
        if field == 1:
            cluster = value
        elif field == 2:
            member = value
        elif field == 3:
            revision = value
    return Header(cluster, member, revision)


def _key_value(encoded: bytes) -> KeyValue:
    key = value = b""
    create = mod = version = 0
    for field, integer, raw in fields(encoded):
        if field == 1:
            key = raw
        elif field == 2:
            create = integer
        elif field == 3:
            mod = integer
        elif field == 4:
            version = integer
        elif field == 5:
            value = raw
    return KeyValue(key, create, mod, version, value)


def _event(encoded: bytes) -> Event:
    is_delete, kv = False, ABSENT
    for field, value, raw in fields(encoded):
        if field == 1:
            is_delete = bool(value)
        elif field == 2:
            kv = _key_value(raw)
    return Event(is_delete, kv)
