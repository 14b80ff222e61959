"""Whether an etcd can carry the registry: asked by each node with its own credentials, beforehand.

Every finding is one sentence that names what is missing and what to do.  Nothing is left behind.
"""

import asyncio
from typing import Final

import msgspec

from waypost.errors import Invalid, WaypostError
from waypost.node.etcd import rpc
from waypost.node.etcd.client import EtcdClient
from waypost.node.etcd.layout import BATCH_BYTES_MAX, new_ulid

QUOTA_DEFAULT: Final = 2 << 30
"""Of etcd's database, unless its operator has set another; its API does not tell."""
_OPERATIONS: Final = 100
_WATCH_S: Final = 5.0
_NO_SPACE, _CORRUPT = 1, 2


class Preflight(msgspec.Struct, frozen=True):
    """What was found."""

    version: str
    cluster_id: int
    """Of the etcd; to be compared by whoever uses it later."""
    findings: tuple[str, ...]
    """Why it cannot carry the registry; empty if it can."""


async def preflight(
    client: EtcdClient, root: str, *, state_bytes: int = 0, cluster_id: int = 0
) -> Preflight:
    """Try what the registry will do, on scratch keys below ``root``.

    ``state_bytes`` is the size of a snapshot, ``cluster_id`` that of the etcd it must be (0: any).
    """
    scratch = f"{root.rstrip('/')}/preflight/{new_ulid().decode()}/".encode()
    findings: list[str] = []
    version = ""
    try:
        version, size = await client.status()
        alarms = await client.alarms()
        findings += [_ALARMS[alarm] for alarm in alarms if alarm in _ALARMS]
        if size + 3 * state_bytes > QUOTA_DEFAULT:
            findings.append(
                f"quota: etcd holds {size >> 20} MiB, three snapshots take "
                f"{3 * state_bytes >> 20} MiB, and its quota is {QUOTA_DEFAULT >> 20} MiB unless "
                "it was raised: defragment it, or raise --quota-backend-bytes"
            )
    except WaypostError as error:
        return Preflight(version, client.cluster_id, (f"status: {error.message}",))
    for name, trial in (
        ("transaction", _try_txn(client, scratch)),
        ("watch", _try_watch(client, scratch)),
        ("size", _try_size(client, scratch)),
        ("operations", _try_operations(client, scratch)),
        ("lease", _try_lease(client)),
        ("delete", client.delete(scratch, scratch[:-1] + b"0")),
    ):
        try:
            async with asyncio.timeout(_WATCH_S):
                await trial
        except TimeoutError:
            findings.append(f"{name}: nothing came within {_WATCH_S:g} s: is etcd overloaded?")
        except WaypostError as error:
            findings.append(f"{name}: {error.message}")
    if cluster_id and client.cluster_id != cluster_id:
        findings.append(
            f"cluster: this etcd is {client.cluster_id:x}, and {cluster_id:x} was meant: check the "
            "endpoints of this node"
        )
    return Preflight(version, client.cluster_id, tuple(findings))


async def check(client: EtcdClient, root: str, *, state_bytes: int = 0) -> None:
    """Raise ``Invalid`` with all findings, if there are any."""
    found = await preflight(client, root, state_bytes=state_bytes)
    if found.findings:
        raise Invalid(
            f"etcd at {client.endpoint} cannot carry a registry: " + "; ".join(found.findings),
            field="etcd",
        )


_ALARMS: Final = {
    _NO_SPACE: "space: etcd is full: compact and defragment it, then disarm its alarm",
    _CORRUPT: "corrupt: etcd has found that its members differ: repair it first",
}


async def _try_txn(client: EtcdClient, scratch: bytes) -> None:
    key = scratch + b"txn"
    await client.txn([rpc.created_at(key, 0)], [rpc.put(key, b"1")], [rpc.get(key)])


async def _try_watch(client: EtcdClient, scratch: bytes) -> None:
    key = scratch + b"watched"
    answer = await client.txn([], [rpc.put(key, b"1")])
    request = rpc.watch_request(key, b"", answer.header.revision)
    async for told in client.watch(request):
        if told.events:
            return


async def _try_size(client: EtcdClient, scratch: bytes) -> None:
    await client.txn([], [rpc.put(scratch + b"large", bytes(BATCH_BYTES_MAX))])


async def _try_operations(client: EtcdClient, scratch: bytes) -> None:
    puts = [rpc.put(scratch + b"many-%d" % n, b"1") for n in range(_OPERATIONS)]
    await client.txn([], puts)


async def _try_lease(client: EtcdClient) -> None:
    lease = await client.grant(10)
    await client.keep_alive(lease)
    await client.revoke(lease)
