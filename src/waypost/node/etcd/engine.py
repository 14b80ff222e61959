"""The log in etcd as an ``Engine``, and a node over it that keeps nothing itself.

Every node writes, none leads.  Each stamps its own batches; cluster time is the highest stamp.
Each owns the sessions attached to it; those of a node that is gone are expired by the one that
holds ``P/expirer``, a full lease after it went.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from waypost.catalog.snapshots import dump, load
from waypost.catalog.state import Catalog
from waypost.consensus.core import KIND_BATCH, Ballot
from waypost.consensus.entry import encode
from waypost.errors import Unavailable, WaypostError
from waypost.node.engine import EngineStatus
from waypost.node.etcd.client import EtcdClient
from waypost.node.etcd.duties import Duties
from waypost.node.etcd.layout import SnapHead
from waypost.node.etcd.log import EtcdLog
from waypost.node.etcd.members import Members
from waypost.node.etcd.opening import find_epoch, open_epoch
from waypost.node.etcd.settings import EtcdSettings
from waypost.node.node import Node

log = logging.getLogger("waypost.etcd")


class EtcdEngine:
    """The engine of a node whose epoch is kept by etcd."""

    def __init__(
        self, node: Node, epoch: int, *, on_fatal: Callable[[BaseException], None]
    ) -> None:
        self._node = node
        self._epoch = epoch
        self._on_fatal = on_fatal
        self._clock = node.clock
        self.log: EtcdLog
        self.members: Members
        self._duties: Duties
        self._task: asyncio.Task[None] | None = None
        self.applied = 0
        self.chain = 0

    async def start(self, ordered: EtcdLog, members: Members) -> None:
        """Follow the log from where the node's catalog stands."""
        self.log, self.members = ordered, members
        await ordered.start()
        await members.start()
        members.on_change = self._node.changed
        self._duties = Duties(self._node, ordered, members, self)
        self._task = asyncio.create_task(self._duties.run())

    # Engine

    @property
    def status(self) -> EngineStatus:
        """How it is now."""
        return EngineStatus(
            engine="etcd",
            role="member",
            leader="",
            epoch=self._epoch,
            durable=True,
            writable=self.log.is_writable,
            members=tuple(sorted(self.members.alive)),
            addresses=tuple(filter(None, map(self.members.alive.get, sorted(self.members.alive)))),
        )

    @property
    def can_append(self) -> bool:
        """Every node writes."""
        return True

    @property
    def leader_nid(self) -> int:
        """Nobody leads."""
        return 0

    @property
    def fresh_ns(self) -> int:
        """What was handed over is no older than what was committed at this moment."""
        return self.log.fresh_ns

    @property
    def is_busy(self) -> bool:
        """Whether a transaction is on its way."""
        return self.log.is_busy

    @property
    def syncs(self) -> tuple[int, float]:
        """How many transactions were made, and the seconds that they took in all."""
        return self.log.transactions

    def append(self, payload: bytes, token: int) -> None:
        """Propose one entry."""
        self.log.append(payload, token)

    def barrier(self, token: int) -> None:
        """Ask for ``caught_up(token)``."""
        self.log.barrier(token)

    async def stop(self) -> None:
        """Finish what is on its way, and leave."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.log.stop()
        await self.members.stop()
        self.log.client.close()

    # Follower

    def entry(self, index: int, kind: int, payload: bytes, token: int) -> None:
        """Pass an entry on."""
        # Nodes that keep a copy of the log know a snapshot by this.
        self.chain = encode(index, Ballot(self._epoch, 1, 0), kind, payload, self.chain).chain
        self.applied = index
        if kind == KIND_BATCH:
            self._node.committed(index, payload, token)
        else:
            self._fail(Unavailable("the log is sealed, and goes on elsewhere: start anew"))

    async def restored(self, snapshot: SnapHead, chunks: list[bytes]) -> None:
        """Replace the state, which a thread builds meanwhile."""
        log.warning("this node missed too much: it goes on from the snapshot at %d", snapshot.index)
        self._node.restored(await asyncio.to_thread(self._node.load, iter(chunks)))
        self.applied, self.chain = snapshot.index, snapshot.chain

    def refused(self, token: int, error: WaypostError) -> None:
        """Pass a refusal on; a token of 0 is this engine's own."""
        if token:
            self._node.refused(token, error)
        else:
            log.warning("sessions of a lost node were not expired, and will be: %s", error)

    def caught_up(self, token: int) -> None:
        """Pass it on."""
        self._node.caught_up(token)

    def settled(self) -> None:
        """Pass it on."""
        self._node.settled()

    def ended(self, error: WaypostError) -> None:
        """Pass it on, and end this process's node."""
        self._fail(error)

    def _fail(self, error: WaypostError) -> None:
        self._node.ended(error)
        self._on_fatal(error)

    async def snapshot(self) -> None:
        """Write a snapshot of the state now, and drop the entries that it holds."""
        await self._duties.snapshot()


async def open_etcd_node(
    settings: EtcdSettings,
    name: str,
    *,
    address: str = "",
    clock: Callable[[], int] = time.monotonic_ns,
    accept_data_loss: bool = False,
    on_fatal: Callable[[BaseException], None],
) -> Node:
    """Begin or find the registry below the prefix, and take part in it.

    ``address`` is where clients reach the native port of this node.

    Raises ``Invalid`` for credentials or endpoints that cannot be, ``CorruptData`` for an etcd that
    is not the one of this registry, ``TimedOut`` for one that does not answer.
    """
    client = EtcdClient(settings)
    try:
        cluster, epoch = await find_epoch(
            client, settings.prefix, name, accept_restored=accept_data_loss
        )
        keys, found = await open_epoch(
            client, settings.prefix, cluster, epoch, name, lambda: dump(Catalog())
        )
        catalog = load(found.chunks)
        node = Node(name, cluster, catalog, clock=clock)
        engine = EtcdEngine(node, epoch.number, on_fatal=on_fatal)
        ordered = EtcdLog(client, keys, name, found, engine, clock)
        begun = found.snapshot
        engine.applied = found.init.s if begun is None else begun.index
        engine.chain = found.init.chain if begun is None else begun.chain
        for entry in found.entries:
            index = found.init.s + entry.version - 1
            engine.entry(index, entry.kind, entry.payload, 0)
        await engine.start(ordered, Members(client, keys, name, address, clock))
    except BaseException:
        client.close()
        raise
    node.start(engine)
    return node
