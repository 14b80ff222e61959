"""Builds a node: the one place that chooses a consensus core and opens a data directory.

What a data directory holds is decided by it alone: its identity (cluster and node) is written once,
when it is made, and a node with another name is refused rather than mixed in.
"""

import logging
import re
import secrets
import time
from collections.abc import Callable
from typing import Final

import msgspec

from waypost.catalog.snapshots import load
from waypost.catalog.state import Catalog
from waypost.consensus.core import Boot
from waypost.consensus.solo import SoloCore
from waypost.errors import CorruptData, Invalid
from waypost.node.engine import CoreEngine, Storage
from waypost.node.node import Node
from waypost.storage.disk import Disk, RealDisk
from waypost.storage.snapshots import SnapshotStore
from waypost.storage.wal import Wal

log = logging.getLogger("waypost.node")

SOLO_NID: Final = 1
_IDENTITY: Final = "identity.json"
_NODE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a node is told at its start."""

    name: str = "local"
    data_dir: str = ""
    """Where its log and snapshots are; empty keeps everything in memory."""
    accept_data_loss: bool = False
    """Start from a damaged log, without what cannot be read."""


async def open_node(
    config: NodeConfig,
    *,
    disk: Disk | None = None,
    clock: Callable[[], int] = time.monotonic_ns,
    on_fatal: Callable[[BaseException], None],
) -> Node:
    """Recover what the data directory holds, and lead it.

    ``disk`` stands for the data directory where it is given: a simulated one, in a test.

    Raises ``CorruptData`` for damage that a single node cannot repair, ``Invalid`` for a
    configuration that cannot be.
    """
    if not _NODE_NAME.fullmatch(config.name):
        raise Invalid(
            f"name: {config.name!r} is not a node name: use 1 to 63 lower-case letters, digits and "
            "inner hyphens",
            field="name",
        )
    storage: Storage | None = None
    boot = Boot()
    catalog = Catalog()
    cluster = secrets.token_hex(8)
    if disk is not None:
        storage, boot, catalog, cluster = _open_data(config, disk, lambda: None)
    elif config.data_dir:
        real = RealDisk(config.data_dir)
        storage, boot, catalog, cluster = _open_data(config, real, real.shut)
    node = Node(config.name, cluster, catalog, data_dir=config.data_dir, clock=clock)
    engine = CoreEngine(
        "local",
        SoloCore(SOLO_NID, boot),
        node=config.name,
        storage=storage,
        sink=node,
        on_fatal=on_fatal,
        clock=clock,
    )
    engine.replay(catalog.revision)
    node.start(engine)
    return node


def _open_data(
    config: NodeConfig, disk: Disk, shut: Callable[[], None]
) -> tuple[Storage, Boot, Catalog, str]:
    try:
        identity = _identity(disk, config)
        cluster = int(identity.cluster, 16)
        snapshots = SnapshotStore(disk, cluster=cluster, node=SOLO_NID)
        newest = snapshots.newest()
        snap, catalog = (None, Catalog()) if newest is None else (newest.snap, load(newest.chunks))
        wal, boot = Wal.open(
            disk,
            cluster=cluster,
            node=SOLO_NID,
            snap=snap,
            accept_data_loss=config.accept_data_loss,
        )
    except BaseException:
        shut()
        raise
    for note in (*snapshots.notes, *wal.notes):
        log.warning("recovery: %s", note)
    return Storage(wal, snapshots, shut), boot, catalog, identity.cluster


def _identity(disk: Disk, config: NodeConfig) -> "_Identity":
    """Whose data this directory holds; written when it is made, and never changed."""
    if _IDENTITY not in disk.names():
        identity = _Identity(format=1, cluster=secrets.token_hex(8), node=config.name)
        _write_file(disk, _IDENTITY, msgspec.json.encode(identity))
        return identity
    file = disk.open(_IDENTITY)
    try:
        identity = msgspec.json.decode(disk.read(file, 0, 65_536), type=_Identity)
        int(identity.cluster, 16)
    except (msgspec.MsgspecError, ValueError) as error:
        raise CorruptData(
            f"{config.data_dir}/{_IDENTITY} cannot be read ({error}): restore it from a backup, or "
            'write {"format": 1, "cluster": "<16 hex digits>", "node": "<name>"} with the cluster '
            "that the log's segments name"
        ) from None
    finally:
        disk.close(file)
    if identity.format != 1:
        raise CorruptData(
            f"{config.data_dir} was written by a newer version (format {identity.format}): "
            "upgrade waypost to open it"
        )
    if identity.node != config.name:
        raise Invalid(
            f"name: {config.data_dir} belongs to node {identity.node!r}, not {config.name!r}: "
            f"start it with --name {identity.node}, or give this node a directory of its own",
            field="name",
        )
    return identity


def _write_file(disk: Disk, name: str, content: bytes) -> None:
    temporary = f"{name}.tmp"
    if temporary in disk.names():
        disk.unlink(temporary)  # of a start that was interrupted
    file = disk.create(temporary, 0)
    disk.write(file, [content], 0)
    disk.sync(file)
    disk.close(file)
    disk.rename(temporary, name)
    disk.sync_names()


class _Identity(msgspec.Struct, frozen=True):
    format: int
    cluster: str
    node: str
