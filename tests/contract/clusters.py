"""A registry of one engine: its nodes in this process, on an event loop and a thread of their own.

Tests run on that loop too, by ``run``; blocking code runs beside it.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from tests.contract.engines import Engine
from tests.node.etcd.servers import EtcdServer
from tests.servers.native.peer import Peer

from waypost.cli.demo.ports import free_ports
from waypost.client.connect import Connecting, connect
from waypost.consensus.settings import Settings
from waypost.errors import WaypostError
from waypost.node.bootstrap import NodeConfig
from waypost.node.etcd.engine import EtcdEngine
from waypost.node.etcd.settings import EtcdSettings
from waypost.standalone import Standalone, new_event_loop
from waypost.wire import NodeStatus, Resolve

_T = TypeVar("_T")
PATIENCE_S = 40


class Cluster:
    """The nodes by name; those that are down are not in ``up``."""

    def __init__(self, engine: Engine, directory: Path, settings: Settings) -> None:
        self.engine = engine
        self._settings = settings
        ports = free_ports(len(engine.nodes))
        self.addresses = {
            name: f"127.0.0.1:{port}" for name, port in zip(engine.nodes, ports, strict=True)
        }
        self.up: dict[str, Standalone] = {}
        self.failures: list[BaseException] = []
        self._directory = directory
        self._etcd = EtcdServer(directory).start() if engine.asks == "etcd" else None
        self._is_cut_off = False
        import_module("waypost.servers.http.server")  # it takes a while: not on the nodes' loop
        self._loop = new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    # From the test's thread

    def run(self, story: Coroutine[Any, Any, _T]) -> _T:
        """Run it on the loop of the nodes, to its end."""

        async def in_time() -> _T:
            async with asyncio.timeout(PATIENCE_S):
                return await story

        return asyncio.run_coroutine_threadsafe(in_time(), self._loop).result()

    def close(self) -> None:
        """Leave nothing behind."""
        try:
            self.run(self.heal())
            self.run(self.stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            if self._etcd is not None:
                self._etcd.stop()

    # Where it is

    @property
    def names(self) -> tuple[str, ...]:
        """Of all nodes."""
        return self.engine.nodes

    @property
    def address(self) -> str:
        """All addresses, as a client is given them."""
        return ",".join(self.addresses.values())

    def after(self, name: str) -> str:
        """Another node, or the same where there is only one."""
        return self.names[(self.names.index(name) + 1) % len(self.names)]

    def client(self, name: str = "", *, timeout: float = 15) -> Connecting:
        """A client that begins at a node, or at any."""
        address = self.addresses[name] if name else self.address
        return connect(address, timeout=timeout, cache_dir=None)

    def told_by(self, name: str) -> tuple[str, ...]:
        """The nodes whose watchers a drain at ``name`` waits for."""
        return self.names if self.engine.speaks else (name,)

    @contextlib.asynccontextmanager
    async def peer(self, name: str, client: str = "") -> AsyncIterator[Peer]:
        """A raw connection to a node, greeted."""
        host, port = self.addresses[name].split(":")
        peer = await Peer.connect((host, int(port)), 0)
        try:
            await peer.hello(client)
            yield peer
        finally:
            peer.abort()

    @contextlib.asynccontextmanager
    async def http(self, name: str) -> AsyncIterator[httpx2.AsyncClient]:
        """A client of a node's HTTP API."""
        node = self.up[name]
        if not node.http_address:
            await node.open_http(0)
        base = f"http://{node.http_address}/api/v1"
        async with httpx2.AsyncClient(base_url=base, timeout=10) as client:
            yield client

    def status(self, name: str) -> NodeStatus:
        """What a node says of itself."""
        return self.up[name].node.status()

    async def state(self, name: str) -> dict[tuple[str, str], Any]:
        """All that a node holds, once it has all that was acknowledged before."""
        node = self.up[name].node
        await node.barrier()
        return {
            (service, key): record
            for service in node.catalog.service_names()
            for key, record in (node.catalog.service(service) or {}).items()
        }

    async def reads(self, name: str, service: str) -> dict[str, str]:
        """The versions of a service's instances, read linearizably at a node."""
        request = Resolve(service, consistency="linearizable")
        answer = await self.up[name].registry.resolve(request)
        return {each.instance.id: each.instance.version for each in answer.records}

    def caretaker(self) -> str:
        """The node whose loss costs most: the one that leads, or any."""
        leader = next(iter(self.up.values())).node.leader
        return leader if leader in self.up else next(iter(self.up))

    # What happens to it

    async def start(self, *names: str) -> None:
        """Start these, or all; returns when every node that is up takes writes."""
        await self.begin(*names)
        await self.led()

    async def begin(self, *names: str) -> None:
        """Start these, or all; returns when their doors are open, whatever they know by then."""
        nodes = {name: self._node(name) for name in names or self.names}
        await asyncio.gather(*(node.start() for node in nodes.values()))
        self.up.update(nodes)

    async def stop(self, *names: str) -> None:
        """Stop these, or all, as a planned restart does."""
        for name in names or list(self.up):
            await self.up.pop(name).stop()

    async def kill(self, *names: str) -> None:
        """Stop these without a word: no client is told, no other node takes over."""
        for name in names:
            node = self.up.pop(name)
            assert node.native is not None
            for connection in node.native.connections:
                connection.abort()
            await node.native.stop()
            node.native = None
            if isinstance(node.node.engine, EtcdEngine):
                _crash(node, node.node.engine)
            else:
                await node.node.stop()

    async def cut_off(self, name: str) -> None:
        """Take the majority away from a node."""
        self._is_cut_off = True
        if self._etcd is not None:
            self._etcd.stand_still()
        else:
            await self.kill(*(each for each in self.names if each != name))

    async def led(self) -> None:
        """Wait until every node that is up takes writes."""
        await until(self._is_led)

    async def heal(self) -> None:
        """Have every node up, and a majority there."""
        if self._is_cut_off and self._etcd is not None:
            self._etcd.go_on()
        self._is_cut_off = False
        down = [name for name in self.names if name not in self.up]
        if down:
            await self.start(*down)
        await self.led()
        for name in self.names:
            await self.up[name].node.barrier()

    def _is_led(self) -> bool:
        nodes = [each.node for each in self.up.values()]
        if not all(node.is_ready()[0] for node in nodes):
            return False
        leaders = {node.leader for node in nodes}
        return not self.engine.elects or (len(leaders) == 1 and leaders <= set(self.up))

    def _node(self, name: str) -> Standalone:
        engine, address = self.engine, self.addresses[name]
        config = NodeConfig(
            name=name,
            address=address,
            data_dir=str(self._directory / name) if engine.keeps and not self._etcd else "",
            line=self.addresses if engine.asks == "nodes" else {},
            engine=engine.name,
            settings=self._settings,
            etcd=EtcdSettings(endpoints=(self._etcd.endpoint,)) if self._etcd else None,
        )
        port = int(address.rpartition(":")[2])
        return Standalone(config, native_port=port, http_port=None, on_fatal=self.failures.append)


def _crash(node: Standalone, engine: EtcdEngine) -> None:
    """What a node is to etcd whose process is gone."""
    node.node.tick_no_more()
    engine.members.vanish()
    tasks = [*engine.log.tasks, engine._task]
    for task in tasks:
        assert task is not None
        task.cancel()
    engine.log.client.close()


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for what nobody tells of."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def eventually(attempt: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    """The same, for what has to be asked for, and may be refused meanwhile."""
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(WaypostError, OSError, EOFError):
                if await attempt():
                    return
            await asyncio.sleep(0.01)
