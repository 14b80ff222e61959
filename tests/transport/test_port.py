import asyncio
from collections.abc import Awaitable, Callable

import pytest

from waypost.transport.port import EARLY_BYTES_MAX, NativePort


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"heard " + data)


Story = Callable[[NativePort, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def with_an_early_connection(story: Story) -> None:
    async def run() -> None:
        port = NativePort("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*await port.open())
        try:
            async with asyncio.timeout(10):
                await story(port, reader, writer)
        finally:
            writer.transport.abort()
            port.close()
            await port.closed()

    asyncio.run(run())


def test_who_came_before_anybody_was_there_is_heard_then() -> None:
    async def story(
        port: NativePort, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(b"before")
        await writer.drain()
        while not any(early._said for early in port._early):
            await asyncio.sleep(0.001)
        port.enter(Echo)
        assert await reader.readexactly(12) == b"heard before"
        writer.write(b"after")
        assert await reader.readexactly(11) == b"heard after"

    with_an_early_connection(story)


def test_who_says_too_much_before_anybody_is_there_is_cut_off() -> None:
    async def story(
        port: NativePort, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(bytes(EARLY_BYTES_MAX + 1))
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        assert not port._early

    with_an_early_connection(story)


def test_who_waits_is_let_go_when_nobody_comes() -> None:
    async def story(
        port: NativePort, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while not port._early:
            await asyncio.sleep(0.001)
        port.close()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)

    with_an_early_connection(story)
