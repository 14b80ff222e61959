"""A node in memory with its native door open, on a clock that the test moves."""

import asyncio
import contextlib
import functools
import gc
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import uvloop
from tests.servers.native.peer import Peer

from waypost.catalog.history import History
from waypost.catalog.state import Catalog
from waypost.model import Record
from waypost.node.bootstrap import engine_in_memory
from waypost.node.engine import Engine, EngineStatus
from waypost.node.node import Node
from waypost.node.registry import Registry
from waypost.servers.native.connection import NativeConnection
from waypost.servers.native.server import NativeServer

CLUSTER = "0123456789abcdef"
EPOCH_MS = 1_700_000_000_000


class Gate:
    """An engine whose disk is as slow as the test wants it."""

    def __init__(self, engine: Engine, node: Node) -> None:
        self._engine = engine
        self._node = node
        self._is_held = False
        self.payloads: deque[bytes] = deque(maxlen=8)
        """What was appended."""

    def hold(self) -> None:
        """Let what is written from now on wait."""
        self._is_held = True

    def release(self) -> None:
        """Let it through."""
        self._is_held = False
        self._node.settled()

    @property
    def status(self) -> EngineStatus:
        return self._engine.status

    @property
    def is_busy(self) -> bool:
        return self._is_held or self._engine.is_busy

    @property
    def can_append(self) -> bool:
        return self._engine.can_append

    @property
    def leader_nid(self) -> int:
        return self._engine.leader_nid

    @property
    def fresh_ns(self) -> int:
        return self._engine.fresh_ns

    @property
    def syncs(self) -> tuple[int, float]:
        return self._engine.syncs

    def append(self, payload: bytes, token: int) -> None:
        self.payloads.append(payload)
        self._engine.append(payload, token)

    def barrier(self, token: int) -> None:
        self._engine.barrier(token)

    async def stop(self) -> None:
        await self._engine.stop()


class World:
    """One node, one door, and the peers that a test connects to it."""

    def __init__(self, history: History | None = None) -> None:
        self.now_ns = 0
        clock = self.clock
        self.node = Node("local", CLUSTER, Catalog(history), clock=clock, wall_ms=lambda: EPOCH_MS)
        engine = engine_in_memory(
            self.node, lambda error: self.trouble.append({"exception": error})
        )
        self.gate = Gate(engine, self.node)
        self.node.start(self.gate)
        self.node.tick_no_more()  # only ``advance`` lets anything become due
        self.server = NativeServer(self.node, Registry(self.node), "127.0.0.1", 0)
        self.address = ("127.0.0.1", 0)
        self.peers: list[Peer] = []
        self.trouble: list[dict[str, Any]] = []
        """What reached the event loop that should not have."""

    def clock(self) -> int:
        return self.now_ns

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.trouble.append(context))
        self.address = await self.server.start()

    async def stop(self) -> None:
        for peer in self.peers:
            peer.abort()
        await self.server.stop()
        await self.node.stop()
        await asyncio.sleep(0)
        gc.collect()
        assert self.trouble == [], self.trouble
        assert self.server.connections == []
        assert self.node.connections == 0
        assert len(self.node.watches) == 0

    async def connect(self, *, hello: bool = True, receive_bytes: int = 0) -> Peer:
        """Connect, and be welcomed.  ``receive_bytes`` makes a peer that soon takes no more."""
        peer = await Peer.connect(self.address, receive_bytes)
        self.peers.append(peer)
        if hello:
            await peer.hello()
        return peer

    async def advance(self, seconds: float, *, look: bool = False) -> None:
        """Move the clock, and let the node do what is due (with ``look`` its door, too)."""
        self.now_ns += int(seconds * 1e9)
        self.node.tick()
        if look:
            for connection in self.server.connections:
                connection.look()
        await self.idle()

    async def idle(self) -> None:
        """Let everything that was proposed be answered."""
        await asyncio.sleep(0)
        while self.node.replica.waiting_commands:
            await asyncio.sleep(0)

    def find(self, service: str, instance_id: str) -> Record | None:
        instances = self.node.catalog.service(service)
        return None if instances is None else instances.get(instance_id)

    def record(self, service: str, instance_id: str) -> Record:
        record = self.find(service, instance_id)
        assert record is not None, f"{service}/{instance_id} is not registered"
        return record

    @property
    def connection(self) -> NativeConnection:
        """The server's side of the only connection."""
        (connection,) = self.server.connections
        return connection


@contextlib.asynccontextmanager
async def opened(history: History | None = None) -> AsyncIterator[World]:
    world = World(history)
    await world.start()
    try:
        yield world
    finally:
        await world.stop()


def native(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    """Make a test of a coroutine that is given a world, under the loop that a node runs on."""

    async def run() -> None:
        async with opened() as world, asyncio.timeout(60):
            await test(world)

    def sync() -> None:
        uvloop.run(run())

    functools.update_wrapper(sync, test)
    del sync.__wrapped__  # type: ignore[attr-defined]  # pytest would take its argument for a fixture
    return sync


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Let the loop run until something is so that nobody tells of."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)
