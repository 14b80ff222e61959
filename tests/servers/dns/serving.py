"""The door with its sockets, over a real node, and how to ask it."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from dnslib import DNSRecord

from waypost.model import Instance
from waypost.node.bootstrap import NodeConfig
from waypost.standalone import Standalone, new_event_loop


class World:
    """A registry and its DNS door."""

    def __init__(self, standalone: Standalone) -> None:
        self.registry = standalone.registry
        self.family = socket.AF_INET
        host, port = standalone.dns_address.rsplit(":", 1)
        self.address = (host.strip("[]"), int(port))

    async def register(self, service: str, instance_id: str, host: str, **fields: Any) -> None:
        await self.registry.register(Instance(service, instance_id, host, 80, **fields), ttl_ms=0)

    async def ask(self, name: str, kind: str = "A") -> DNSRecord:
        query = DNSRecord.question(name, kind)
        reply = DNSRecord.parse(await self.send(bytes(query.pack())))
        assert reply.header.id == query.header.id
        return reply

    async def send(self, data: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        with socket.socket(self.family, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(self.address)
            client.send(data)
            async with asyncio.timeout(10):
                return await loop.sock_recv(client, 65_535)


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[World]:
    standalone = Standalone(
        NodeConfig(), native_port=0, http_port=None, **{"dns_port": 0, **options}
    )
    await standalone.start()
    try:
        yield World(standalone)
    finally:
        await standalone.stop()


def run(story: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(asyncio.wait_for(story(), 60))


def frame(query: bytes) -> bytes:
    return struct.pack("!H", len(query)) + query


async def read_reply(reader: asyncio.StreamReader) -> DNSRecord:
    (length,) = struct.unpack("!H", await reader.readexactly(2))
    return DNSRecord.parse(await reader.readexactly(length))
