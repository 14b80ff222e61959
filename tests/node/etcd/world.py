"""Nodes over an etcd, in this process, and what they know."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from waypost.model import Instance
from waypost.node.etcd.engine import EtcdEngine, open_etcd_node
from waypost.node.etcd.settings import EtcdSettings
from waypost.node.node import Node
from waypost.node.registry import Registry
from waypost.wire import Resolve


class Member:
    """A node and its verbs."""

    def __init__(self, node: Node, failures: list[BaseException]) -> None:
        self.node = node
        self.failures = failures
        self.registry = Registry(node)

    @property
    def engine(self) -> EtcdEngine:
        assert isinstance(self.node.engine, EtcdEngine)
        return self.node.engine

    async def register(self, n: int, version: str = "1") -> int:
        instance = Instance("orders", f"o-{n}", "10.0.0.1", 8000 + n, version=version)
        await self.registry.register(instance, ttl_ms=0)
        return self.node.revision

    async def state(self) -> dict[str, str]:
        """What a linearizable read sees."""
        await self.node.barrier()
        answer = await self.registry.resolve(Resolve("orders"))
        return {r.instance.id: r.instance.version for r in answer.records}

    def local(self) -> dict[str, str]:
        """What this node knows now."""
        records = self.node.catalog.service("orders") or {}
        return {key: record.instance.version for key, record in records.items()}


@contextlib.asynccontextmanager
async def member(settings: EtcdSettings, name: str = "a") -> AsyncIterator[Member]:
    failures: list[BaseException] = []
    node = await open_etcd_node(settings, name, on_fatal=failures.append)
    try:
        yield Member(node, failures)
    finally:
        await node.stop()


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def tell() -> None:
        await story()

    asyncio.run(tell())


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
