"""Listens for native connections, and closes the silent ones.

A client says something at least every ``wire.PING_MS``, or when it is pinged; one that is silent
for ``wire.DEADLINE_MS`` is half-open, unless it holds a session: then its lease decides.
"""

import asyncio
import contextlib
import socket
from typing import Final

from waypost.node.node import Node
from waypost.node.registry import Registry
from waypost.servers.native.connection import NativeConnection

_LOOK_S: Final = 1.0
_GOING_S: Final = 0.2
_FLUSHING_S: Final = 0.2
_UNSENT_BYTES_MAX: Final = 128 << 10
_BACKLOG: Final = 4096


class NativeServer:
    """The native door of one node."""

    def __init__(self, node: Node, registry: Registry, host: str, port: int) -> None:
        self._node = node
        self._registry = registry
        self._host = host
        self._port = port
        self._connections: set[NativeConnection] = set()
        self._all_left = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._watchman: asyncio.Task[None] | None = None

    @property
    def connections(self) -> list[NativeConnection]:
        """Those that are open now."""
        return list(self._connections)

    async def start(self, listener: socket.socket | None = None) -> tuple[str, int]:
        """Listen; returns the host and the port that it got (a port of 0 asks for any).

        ``listener`` is the port, where it is open already.
        """
        loop = asyncio.get_running_loop()

        def enter() -> NativeConnection:
            return NativeConnection(self._node, self._registry, self)

        if listener is None:
            listener = listen(self._host, self._port)
        self._server = await loop.create_server(enter, sock=listener, backlog=_BACKLOG)
        for listener in self._server.sockets:
            _keep_little_unsent(listener)
        self._watchman = loop.create_task(self._watch_the_silent())
        address = self._server.sockets[0].getsockname()
        return address[0], address[1]

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
        if self._server is not None:
            self._server.close()
        for connection in self.connections:
            connection.going(is_stopping=True)
        await self._until_left(_GOING_S)
        for connection in self.connections:
            connection.close()
        await self._until_left(_FLUSHING_S)
        for connection in self.connections:
            connection.abort()  # it does not read what it was told last
        if self._server is not None:
            await self._server.wait_closed()

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


def listen(host: str, port: int) -> socket.socket:
    """Open the native port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    listener.setblocking(False)
    return listener


def _keep_little_unsent(listener: socket.socket) -> None:
    """Let the kernel take little more than what may travel now (``TCP_NOTSENT_LOWAT``, tcp(7)).

    It takes megabytes otherwise, and only when a third of them is gone does it tell: whether a
    client reads at all could not be seen for minutes, and a slow one would be told old news.
    """
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES_MAX)
