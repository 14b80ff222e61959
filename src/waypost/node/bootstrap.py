"""Builds a node: the one place that chooses a consensus core and opens a data directory.

What a data directory holds is decided by it alone: its identity (cluster and node) is written once,
when it is made, and a node with another name is refused rather than mixed in.
"""

import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from waypost.catalog.state import Catalog
from waypost.consensus.core import Boot
from waypost.consensus.solo import SoloCore
from waypost.errors import Invalid
from waypost.node.engine import CoreEngine, Storage
from waypost.node.node import Node
from waypost.storage.disk import RealDisk

SOLO_NID: Final = 1
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
    clock: Callable[[], int] = time.monotonic_ns,
    on_fatal: Callable[[BaseException], None],
) -> Node:
    """Recover what the data directory holds, and lead it.

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
    if config.data_dir:
        storage, boot, catalog, cluster = _open_data(config)
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


def _open_data(config: NodeConfig) -> tuple[Storage, Boot, Catalog, str]:
    Path(config.data_dir).mkdir(parents=True, exist_ok=True)
    disk = RealDisk(config.data_dir)
    raise NotImplementedError
