"""A node in memory with its HTTP door on a port of its own, for one test."""

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from waypost.node.bootstrap import NodeConfig, open_node
from waypost.node.node import Node
from waypost.node.registry import Registry
from waypost.servers.http.server import HttpServer
from waypost.standalone import new_event_loop

INSTANCE = {"host": "127.0.0.1", "port": 9, "ttl": 0}


class World:
    def __init__(
        self, node: Node, registry: Registry, server: HttpServer, address: tuple[str, int]
    ) -> None:
        self.node = node
        self.registry = registry
        self.server = server
        self.host, self.port = address
        self.client = httpx2.AsyncClient(base_url=f"http://{self.host}:{self.port}", timeout=10)

    async def get(self, path: str, status: int = 200, **options: Any) -> Any:
        return (await self.ask("GET", path, status, **options)).json()

    async def put(self, path: str, body: object, status: int | None = None) -> Any:
        return (await self.ask("PUT", path, status, json=body)).json()

    async def post(self, path: str, body: object = None, status: int | None = None) -> Any:
        return (await self.ask("POST", path, status, json=body)).json()

    async def delete(self, path: str, status: int | None = None) -> Any:
        return (await self.ask("DELETE", path, status)).json()

    async def ask(
        self, method: str, path: str, status: int | None = None, **options: Any
    ) -> httpx2.Response:
        answer = await self.client.request(method, path, **options)
        assert status is None or answer.status_code == status, answer.text
        if answer.is_error and method != "HEAD":
            check_problem(answer)
        return answer

    async def register(self, service: str, instance_id: str, **fields: object) -> Any:
        return await self.put(f"{of(service)}/instances/{instance_id}", {**INSTANCE, **fields})

    async def raw(self, request: bytes) -> bytes:
        """What comes back for these bytes until the server closes."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(request)
            async with asyncio.timeout(10):
                return await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()


def of(service: str) -> str:
    return f"/api/v1/services/{service}"


def check_problem(answer: httpx2.Response) -> None:
    """Every error is told in the same form."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["type"] == f"urn:waypost:error:{problem['code']}"
    assert problem["title"]
    assert problem["detail"]
    assert problem["retryable"] in (True, False)


@asynccontextmanager
async def world(make: Callable[[Node], Registry] = Registry) -> AsyncIterator[World]:
    failures: list[BaseException] = []
    node = await open_node(NodeConfig(), on_fatal=failures.append)
    registry = make(node)
    server = HttpServer(registry, "127.0.0.1", 0)
    there = World(node, registry, server, await server.start())
    try:
        yield there
    finally:
        await there.client.aclose()
        await server.stop()
        await node.stop()
    assert not failures


def served(
    test: Callable[..., Awaitable[None]] | None = None,
    *,
    make: Callable[[Node], Registry] = Registry,
) -> Any:
    """Run a test against a world of its own, which it gets as its first argument."""
    if test is None:
        return functools.partial(served, make=make)
    parameters = list(inspect.signature(test).parameters.values())[1:]

    def run(**arguments: Any) -> None:
        async def main() -> None:
            async with world(make) as there:
                await test(there, **arguments)

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what nobody announces."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)
