"""Listens for native connections, and closes the silent ones.

A client says something at least every ``wire.PING_MS``, or when it is pinged; one that is silent
for ``wire.DEADLINE_MS`` is half-open, unless it holds a session: then its lease decides.
"""

import asyncio
import contextlib
from typing import Final

from waypost.node.node import Node
from waypost.node.registry import Registry
from waypost.servers.native.connection import NativeConnection
from waypost.transport.port import NativePort

_LOOK_S: Final = 1.0
_GOING_S: Final = 0.2
_FLUSHING_S: Final = 0.2


class NativeServer:
    """The native door of one node."""

    def __init__(self, node: Node, registry: Registry, host: str, port: int) -> None:
        self._node = node
        self._registry = registry
        self._host = host
        self._port = port
        self._connections: set[NativeConnection] = set()
        self._all_left = asyncio.Event()
        self._native_port: NativePort | None = None
        self._watchman: asyncio.Task[None] | None = None

    @property
    def connections(self) -> list[NativeConnection]:
        """Those that are open now."""
        return list(self._connections)

    async def start(self, port: NativePort | None = None) -> tuple[str, int]:
        """Listen; returns the host and the port that it got (a port of 0 asks for any).

        ``port`` is the native port, where it is open already.
        """
        loop = asyncio.get_running_loop()
        address = (self._host, self._port)
        if port is None:
            port = NativePort(*address)
            port.enter(self._enter)
            address = await port.open()
        port.enter(self._enter)
        self._native_port = port
        self._watchman = loop.create_task(self._watch_the_silent())
        return address

    def _enter(self) -> NativeConnection:
        return NativeConnection(self._node, self._registry, self)

    def move_clients(self) -> None:
        """Tell every client that another node may serve it better; this one goes on."""
        for connection in self.connections:
            connection.going(is_stopping=False)

    async def stop(self) -> None:
        """Tell every client to move, give them a moment, and close."""
        if self._watchman is not None:
            self._watchman.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watchman
        self.shut()
        for connection in self.connections:
            connection.going(is_stopping=True)
        await self._until_left(_GOING_S)
        for connection in self.connections:
            connection.close()
        await self._until_left(_FLUSHING_S)
        for connection in self.connections:
            connection.abort()  # it does not read what it was told last
        if self._native_port is not None:
            await self._native_port.closed()

    def shut(self) -> None:
        """Let nobody in any more."""
        if self._native_port is not None:
            self._native_port.close()

    def entered(self, connection: NativeConnection) -> None:
        """A client connected."""
        self._connections.add(connection)
        self._all_left.clear()

    def left(self, connection: NativeConnection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        if not self._connections:
            self._all_left.set()

    async def _until_left(self, at_most_s: float) -> None:
        if self._connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_left.wait(), at_most_s)

    async def _watch_the_silent(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LOOK_S
            await asyncio.sleep(_LOOK_S)
            if loop.time() - due > _LOOK_S / 2:
                continue  # the loop stood still: what they said may wait unread
            for connection in self.connections:
                connection.look()
