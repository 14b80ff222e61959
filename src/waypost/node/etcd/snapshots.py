"""Snapshots of the state in etcd, and the entries that they make superfluous.

Always true: the snapshot that ``P/snaphead`` names is whole and was read back; entries are deleted
only when a snapshot holds them; of two nodes that write one at a time, one wins.

etcd's own history is not compacted by this: it belongs to all who use that etcd, so its operator
decides (``--auto-compaction-retention``).  A reader of an older revision is not disturbed, since
deleted keys stay readable there until then.
"""

import logging
from collections.abc import Iterable
from typing import Final

import msgspec

from waypost.errors import TimedOut
from waypost.node.etcd import rpc
from waypost.node.etcd.client import EtcdClient
from waypost.node.etcd.layout import Keys, SnapHead, decoded
from waypost.node.etcd.opening import in_chunks, upload
from waypost.node.etcd.reading import Position

log = logging.getLogger("waypost.etcd")

LOG_BYTES_MIN: Final = 16 << 20
LOG_ENTRIES_MIN: Final = 20_000
"""A snapshot is due when the log since the last one has so much, or as much as that one."""
_BYTES_PER_ENTRY: Final = 1024
_DELETES: Final = 100
"""Operations of a transaction; etcd takes 128 unless it is told otherwise."""


def is_due(snapshot: SnapHead | None, entries: int, size: int) -> bool:
    """Whether reading the log takes a new node longer than reading a snapshot."""
    last = 0 if snapshot is None else snapshot.bytes
    return size >= max(LOG_BYTES_MIN, last) or entries >= max(
        LOG_ENTRIES_MIN, last // _BYTES_PER_ENTRY
    )


async def write_snapshot(
    client: EtcdClient,
    keys: Keys,
    index: int,
    at: Position,
    slices: Iterable[bytes],
    *,
    chain: int = 0,
) -> SnapHead | None:
    """Write the state after the entry ``index``, which lies ``at``; None if another one is newer.

    ``chain`` is that entry's, 0 if it is not known.

    Deletes the entries that it holds, and the snapshot before.
    """
    before = (await client.range(rpc.range_request(keys.snaphead))).one
    if before.create_revision and decoded(before.value, SnapHead, keys.snaphead).index >= index:
        return None
    state = await upload(client, keys.snap, in_chunks(slices))
    head = SnapHead(
        index, at.version, at.revision, state.ulid, state.chunks, state.digest, state.bytes, chain
    )
    value = msgspec.json.encode(head)
    try:
        await client.txn(
            [rpc.modified_at(keys.snaphead, before.mod_revision), rpc.exists(keys.init)],
            [rpc.put(keys.snaphead, value)],
        )
    except TimedOut as error:
        log.info("%s", error)  # whether it got in, the next line tells
    now = (await client.range(rpc.range_request(keys.snaphead))).one
    if now.value != value:
        prefix = keys.snap + state.ulid.encode()
        await client.delete(prefix + b"/", prefix + b"0")
        return None
    await _delete_covered(client, keys, head)
    return head


async def _delete_covered(client: EtcdClient, keys: Keys, head: SnapHead) -> None:
    ulid = head.ulid.encode()
    await client.delete(keys.snap, keys.snap + ulid)
    await client.delete(keys.snap + ulid + b"0", keys.snap[:-1] + b"0")
    await client.delete(keys.chunk, keys.chunk[:-1] + b"0")
    request = rpc.range_request(
        keys.log, keys.log_end, keys_only=True, max_mod_revision=head.mod_revision
    )
    covered = [kv.key for kv in (await client.range(request)).kvs]
    for start in range(0, len(covered), _DELETES):
        deletes = [rpc.delete(key) for key in covered[start : start + _DELETES]]
        await client.txn([], deletes)
