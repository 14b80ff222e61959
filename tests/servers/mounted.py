"""A registry in memory with all its doors, asked at one that shares the HTTP port."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from waypost.model import Health, Instance
from waypost.node.bootstrap import NodeConfig
from waypost.node.registry import Registry
from waypost.standalone import Standalone, new_event_loop


class Mounted:
    """It, and a client of it."""

    def __init__(self, standalone: Standalone) -> None:
        self.standalone = standalone
        self.registry: Registry = standalone.registry
        self.client = httpx2.AsyncClient(base_url=f"http://{standalone.http_address}", timeout=10)

    async def ask(
        self, path: str, status: int = 200, *, method: str = "GET", **options: Any
    ) -> httpx2.Response:
        answer = await self.client.request(method, path, **options)
        assert answer.status_code == status, answer.text
        return answer

    async def register(
        self, service: str, instance_id: str, *, health: Health = "passing", **fields: Any
    ) -> None:
        instance = Instance(service, instance_id, **{"host": "10.0.0.1", "port": 8000, **fields})
        await self.registry.register(instance, ttl_ms=0, health=health)


@asynccontextmanager
async def mounted(**options: Any) -> AsyncIterator[Mounted]:
    failures: list[BaseException] = []
    standalone = Standalone(
        NodeConfig(), native_port=0, http_port=0, on_fatal=failures.append, **options
    )
    await standalone.start()
    there = Mounted(standalone)
    try:
        yield there
    finally:
        await there.client.aclose()
        await standalone.stop()
    assert not failures


def served(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test against a registry of its own, which it gets as its first argument."""
    parameters = list(inspect.signature(test).parameters.values())[1:]

    def run(**arguments: Any) -> None:
        async def main() -> None:
            async with mounted() as there:
                await test(there, **arguments)

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run
