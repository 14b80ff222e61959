"""Who makes the log in etcd, and how a node finds it.

Always true: however many nodes begin at once, one of them makes the layout (a transaction that
only creates decides it), and every one, that one too, reads it back and compares before it appends.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from waypost.consensus.epoch import Epoch, Peer, decode_epoch, encode_epoch
from waypost.errors import CorruptData, Invalid, TimedOut
from waypost.node.etcd import rpc
from waypost.node.etcd.client import EtcdClient
from waypost.node.etcd.layout import (
    CHUNK_BYTES,
    FORMAT,
    Current,
    Init,
    Keys,
    current_key,
    decoded,
    keys_of,
    new_ulid,
)
from waypost.node.etcd.preflight import check
from waypost.node.etcd.reading import Found, chunk_key, read, read_chunks

_ATTEMPTS: Final = 5
_ENGINE: Final = "etcd"


class State(msgspec.Struct, frozen=True):
    """A state as it lies in etcd: so many chunks under a ulid, and their digest."""

    ulid: str
    chunks: int
    digest: str
    bytes: int


async def find_epoch(
    client: EtcdClient, root: str, node: str, *, accept_restored: bool = False
) -> tuple[str, Epoch]:
    """Find the newest epoch below ``root`` and its cluster, or begin a registry there.

    With ``accept_restored`` an etcd that was restored from a backup is taken for what it holds.
    """
    key = current_key(root)
    for _ in range(_ATTEMPTS):
        found = (await client.range(rpc.range_request(key))).one
        if found.create_revision:
            current = decoded(found.value, Current, key)
            if current.format != FORMAT:
                raise Invalid(
                    f"etcd: {key.decode()} was written by a newer version (format "
                    f"{current.format}): upgrade waypost, or choose another prefix",
                    field="etcd-prefix",
                )
            epoch = decode_epoch(current.epoch)
            if accept_restored:
                await _accept(client, keys_of(root, current.cluster, epoch))
            return current.cluster, epoch
        cluster = secrets.token_hex(8)
        nid = secrets.randbelow((1 << 32) - 1) + 1
        epoch = Epoch(int(cluster, 16), 1, _ENGINE, {nid: Peer(node, "")}, first=1)
        try:
            await client.txn([rpc.created_at(key, 0)], [rpc.put(key, _current(cluster, epoch))])
        except TimedOut:
            continue  # whether it got in, the next look tells
    raise TimedOut(f"etcd at {client.endpoint} answers too slowly to begin a registry: try again")


async def open_epoch(
    client: EtcdClient,
    root: str,
    cluster: str,
    epoch: Epoch,
    node: str,
    state: Callable[[], Iterable[bytes]],
    *,
    is_own: bool = False,
    is_checked: bool = False,
    held: int = 0,
    chain: int = 0,
) -> tuple[Keys, Found]:
    """Make the log of an epoch unless it is made, and read all that it holds.

    ``state`` gives the state at ``epoch.first - 1``; where this node applied it itself (``is_own``)
    it must be the one that etcd has.  ``is_checked``: this etcd passed its preflight just now.
    ``held`` is as in ``read``; ``chain`` that of the entry at s.

    Raises ``CorruptData`` when what is there is not of this epoch, or not this state, ``Invalid``
    when the prefix is another registry's, or this etcd cannot carry one.
    """
    keys = keys_of(root, cluster, epoch)
    s = epoch.first - 1
    current = current_key(root)
    uploaded: State | None = None
    for _ in range(_ATTEMPTS):
        found = await read(client, keys, None, held=held)
        if found is not None:
            compare(client, keys, found.init, epoch)
            if is_own and (uploaded is None or uploaded.digest != found.init.digest):
                await _compare_state(keys, found.init, state())
            return keys, found
        named = (await client.range(rpc.range_request(current))).one
        _check_root(root, cluster, current, named)
        if not is_checked:
            await check(client, root)
        uploaded = await upload(client, keys.chunk, in_chunks(state()))
        init = Init(
            FORMAT,
            s,
            epoch.seal_ballot,
            uploaded.digest,
            uploaded.ulid,
            uploaded.chunks,
            f"{client.cluster_id:x}",
            node,
            chain,
        )
        try:
            answer = await client.txn(
                [
                    rpc.created_at(keys.init, 0),
                    rpc.created_at(keys.head, 0),
                    rpc.modified_at(current, named.mod_revision),
                ],
                [
                    rpc.put(keys.init, msgspec.json.encode(init)),
                    rpc.put(keys.head, b"init"),
                    rpc.put(current, _current(cluster, epoch)),
                ],
            )
        except TimedOut:
            continue  # whether it got in, reading it back tells
        if not answer.succeeded:
            prefix = keys.chunk + uploaded.ulid.encode()
            await client.delete(prefix + b"/", prefix + b"0")
    raise TimedOut(f"etcd at {client.endpoint} answers too slowly to begin a log: try again")


async def clear(client: EtcdClient, keys: Keys) -> None:
    """Delete what an epoch that is over has left, once the next one is released.

    ``P/init`` and ``P/seal`` stay: nobody can begin that epoch again, and latecomers learn from the
    Seal where the log goes on.
    """
    seal = (await client.range(rpc.range_request(keys.seal))).one
    assert seal.create_revision, "an epoch that is not sealed is not over"
    prefix = keys.prefix.encode()
    await client.delete(prefix + b"/", keys.init)
    await client.delete(keys.init + b"\0", keys.seal)
    await client.delete(keys.seal + b"\0", prefix + b"0")


async def upload(client: EtcdClient, prefix: bytes, chunks: Iterable[bytes]) -> State:
    """Write a state in chunks, below a ulid of its own, and read it back."""
    ulid = new_ulid().decode()
    digest = hashlib.sha256()
    count = size = 0
    for chunk in chunks:
        request = [rpc.put(chunk_key(prefix, ulid, count), chunk)]
        for attempt in range(_ATTEMPTS):
            try:
                await client.txn([], request)  # a chunk may be put twice
                break
            except TimedOut:
                if attempt == _ATTEMPTS - 1:
                    raise
        digest.update(chunk)
        count += 1
        size += len(chunk)
    await read_chunks(client, prefix, ulid, count, digest.hexdigest())
    return State(ulid, count, digest.hexdigest(), size)


def in_chunks(chunks: Iterable[bytes]) -> Iterable[bytes]:
    """Make chunks of ``CHUNK_BYTES`` of whatever slices come."""
    rest = bytearray()
    for chunk in chunks:
        rest += chunk
        while len(rest) >= CHUNK_BYTES:
            yield bytes(rest[:CHUNK_BYTES])
            del rest[:CHUNK_BYTES]
    if rest:
        yield bytes(rest)


def _check_root(root: str, cluster: str, key: bytes, named: rpc.KeyValue) -> None:
    if named.create_revision and decoded(named.value, Current, key).cluster != cluster:
        raise Invalid(
            f"etcd: another registry is below {root}: choose another prefix", field="etcd-prefix"
        )


def compare(client: EtcdClient, keys: Keys, init: Init, epoch: Epoch) -> None:
    """Raise unless the log that begins with ``init`` is that of ``epoch``, in this very etcd."""
    if init.format != FORMAT:
        raise Invalid(
            f"etcd: {keys.prefix} was written by a newer version (format {init.format}): upgrade "
            "waypost to open it",
            field="etcd-prefix",
        )
    if init.s != epoch.first - 1 or init.seal_ballot != epoch.seal_ballot:
        raise CorruptData(
            f"etcd: {keys.prefix} goes on after entry {init.s}, and this registry after "
            f"{epoch.first - 1}: its log is another one; do not start this node"
        )
    if init.cluster_id != f"{client.cluster_id:x}":
        raise CorruptData(
            f"etcd at {client.endpoint} is cluster {client.cluster_id:x}, and the registry's log "
            f"was begun in cluster {init.cluster_id}: it was swapped, or restored from a backup; "
            "what was acknowledged since is lost; to go on with what is there, start one node "
            "once with --accept-data-loss"
        )


async def _compare_state(keys: Keys, init: Init, state: Iterable[bytes]) -> None:
    digest = hashlib.sha256()
    for chunk in state:
        digest.update(chunk)
        await asyncio.sleep(0)
    if digest.hexdigest() != init.digest:
        raise CorruptData(
            f"etcd: the state that {keys.prefix} begins with, from node {init.uploader!r}, is not "
            "the one of this node: one of them has diverged; stop both and compare them"
        )


async def _accept(client: EtcdClient, keys: Keys) -> None:
    """Note that the log goes on in this etcd, although it is not the one that it began in."""
    found = (await client.range(rpc.range_request(keys.init))).one
    if not found.create_revision:
        return
    init = decoded(found.value, Init, keys.init)
    here = msgspec.structs.replace(init, cluster_id=f"{client.cluster_id:x}")
    if here != init:
        await client.txn(
            [rpc.modified_at(keys.init, found.mod_revision)],
            [rpc.put(keys.init, msgspec.json.encode(here))],
        )


def _current(cluster: str, epoch: Epoch) -> bytes:
    return msgspec.json.encode(Current(FORMAT, cluster, encode_epoch(epoch)))
