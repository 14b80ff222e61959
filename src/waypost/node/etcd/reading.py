"""What the log holds, read at one revision of etcd: a node's start, and its return after a gap.

Always true: what is returned goes on exactly where the caller stands, or begins with a snapshot;
as many entries are there as the version of the head says, or ``CorruptData`` is raised.
"""

import asyncio
import hashlib
from typing import Final

import msgspec

from waypost.errors import CorruptData, TimedOut, Unavailable
from waypost.node.etcd import rpc
from waypost.node.etcd.client import Compacted, EtcdClient
from waypost.node.etcd.layout import Init, Keys, LogEntry, SnapHead, at, decoded

_PAGE: Final = 32
"""Keys of a page: of the largest values, some 45 MB."""
_ATTEMPTS: Final = 20


class Position(msgspec.Struct, frozen=True, gc=False):
    """Where a reader stands: the head's version, and etcd's revision after which to go on."""

    version: int
    revision: int


class Found(msgspec.Struct, frozen=True):
    """What ``read`` found."""

    init: Init
    snapshot: SnapHead | None
    """To begin with, if the reader must; None: it goes on where it stands, or at the beginning."""
    chunks: list[bytes]
    """The state: of the snapshot, or that at s; empty if the reader holds as much."""
    entries: list[LogEntry]
    position: Position
    """Where the reader stands when it has taken all of it."""


async def read(
    client: EtcdClient, keys: Keys, after: Position | None, *, held: int = 0
) -> Found | None:
    """Read what a reader at ``after`` lacks (None: everything); None if there is no log.

    A reader that holds the log up to a version, but does not know of which revision that is, gives
    it as ``held``: it is given all entries that are left, and a state only if it lacks one.

    Raises ``CorruptData`` when the log is not the one that the reader knew, or is damaged.
    """
    for _ in range(_ATTEMPTS):
        try:
            return await _read(client, keys, after, held)
        except Compacted:
            await asyncio.sleep(0.05)  # the user's etcd compacts while this reads: begin anew
    raise TimedOut(
        "etcd: its history is compacted faster than the log can be read: compact less often"
    )


async def read_chunks(
    client: EtcdClient, prefix: bytes, ulid: str, count: int, digest: str, *, revision: int = 0
) -> list[bytes]:
    """Read a state back, and check that it is what was written."""
    chunks: list[bytes] = []
    state = hashlib.sha256()
    for k in range(count):
        request = rpc.range_request(chunk_key(prefix, ulid, k), revision=revision)
        found = (await client.range(request)).one
        state.update(found.value)
        chunks.append(found.value)
    if state.hexdigest() != digest:
        raise CorruptData(
            f"etcd: the state below {prefix.decode()}{ulid} is not the one that was written there: "
            "somebody else wrote or deleted below the prefix; restore etcd from a backup"
        )
    return chunks


def chunk_key(prefix: bytes, ulid: str, k: int) -> bytes:
    """Name one chunk of a state."""
    return b"%s%s/%06d" % (prefix, ulid.encode(), k)


async def _read(client: EtcdClient, keys: Keys, after: Position | None, held: int) -> Found | None:
    answer = await client.snapshot_of(
        [rpc.get(key) for key in (keys.init, keys.head, keys.snaphead, keys.seal)]
    )
    revision = answer.header.revision
    init_kv, head, snap_kv, seal = (each.one for each in answer.ranges)
    if not init_kv.create_revision:
        if after is not None:
            raise CorruptData(f"etcd: {keys.prefix} is gone: somebody deleted the registry's log")
        return None
    init = decoded(init_kv.value, Init, keys.init)
    if seal.create_revision and not head.create_revision:
        raise Unavailable(
            f"etcd: the log in {keys.prefix} has ended, and goes on elsewhere: ask another node"
        )
    seen = max(held, after.version if after else 1)
    if not head.create_revision or head.version < seen:
        raise CorruptData(
            f"etcd: {keys.prefix}/head stands at version {head.version}, and this node has seen "
            f"{seen}: etcd was restored from a backup, or the key was "
            "deleted"
        )
    snapshot = decoded(snap_kv.value, SnapHead, keys.snaphead) if snap_kv.create_revision else None
    if snapshot is not None and after is not None and snapshot.version <= after.version:
        snapshot = None
    chunks: list[bytes] = []
    if snapshot is not None:
        start = Position(snapshot.version, snapshot.mod_revision)
        if held < snapshot.version:
            chunks = await read_chunks(
                client,
                keys.snap,
                snapshot.ulid,
                snapshot.chunks,
                snapshot.digest,
                revision=revision,
            )
    elif after is not None:
        start = after
    else:
        start = Position(1, 0)
        if not held:
            chunks = await read_chunks(
                client, keys.chunk, init.ulid, init.chunks, init.digest, revision=revision
            )
    entries = await _entries(client, keys, start, head.version, revision)
    return Found(init, snapshot, chunks, entries, Position(head.version, revision))


async def _entries(
    client: EtcdClient, keys: Keys, start: Position, version: int, revision: int
) -> list[LogEntry]:
    """Read the entries above ``start``: ordered by their revision, numbered by their rank."""
    found: list[rpc.KeyValue] = []
    key = keys.log
    while version > start.version:
        page = await client.range(
            rpc.range_request(
                key,
                keys.log_end,
                limit=_PAGE,
                revision=revision,
                min_mod_revision=start.revision + 1,
            )
        )
        found += page.kvs
        if not page.more or not page.kvs:
            break
        key = page.kvs[-1].key + b"\0"
    if len(found) != version - start.version:
        raise CorruptData(
            f"etcd: {keys.prefix}/log holds {len(found)} entries where the head counts "
            f"{version - start.version}: somebody else deleted or wrote below the prefix; restore "
            "etcd from a backup"
        )
    found.sort(key=lambda kv: kv.mod_revision)
    return [at(keys, kv, start.version + 1 + rank) for rank, kv in enumerate(found)]
