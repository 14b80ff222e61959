"""The native port of a node: it is open before the node is there, and who answers may change.

While a machine looks for its cluster, others that do the same are answered on it; afterwards the
doors of the node are behind it.  Whoever connects before anybody is there, because a log is still
being read, is kept waiting with what it said, and heard then.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final, cast

BACKLOG: Final = 4096
EARLY_BYTES_MAX: Final = 64 << 10
"""Who says more before anybody is there to hear it is cut off."""
_UNSENT_BYTES_MAX: Final = 128 << 10


class NativePort:
    """One listening port."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._enter: Callable[[], asyncio.Protocol] | None = None
        self._early: dict[_Early, None] = {}
        """Who waits until somebody is there, in the order in which they came."""

    def enter(self, make: Callable[[], asyncio.Protocol]) -> None:
        """Have ``make`` make what speaks with whoever connects, or has connected and waits."""
        self._enter = make
        waiting, self._early = self._early, {}
        for early in waiting:
            early.hand_over(make())

    async def open(self) -> tuple[str, int]:
        """Listen; returns the host and the port that it got (a port of 0 asks for any)."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._made, self._host, self._port, backlog=BACKLOG)
        for listener in self._server.sockets:
            _keep_little_unsent(listener)
        address = self._server.sockets[0].getsockname()
        return address[0], address[1]

    def _made(self) -> asyncio.Protocol:
        return _Early(self._early) if self._enter is None else self._enter()

    def close(self) -> None:
        """Take no more connections."""
        for early in list(self._early):
            early.abort()
        if self._server is not None:
            self._server.close()

    async def closed(self) -> None:
        """Wait until it is closed, and all connections on it are."""
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None


class _Early(asyncio.Protocol):
    """Somebody who came before anybody was there."""

    def __init__(self, waiting: "dict[_Early, None]") -> None:
        self._waiting = waiting
        self._said = bytearray()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It waits from now on."""
        self._transport = cast("asyncio.Transport", transport)
        self._waiting[self] = None

    def data_received(self, data: bytes) -> None:
        """What it says is kept."""
        self._said += data
        if len(self._said) > EARLY_BYTES_MAX:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """It did not wait."""
        self._waiting.pop(self, None)

    def hand_over(self, protocol: asyncio.Protocol) -> None:
        """Let ``protocol`` go on, as if it had been there from the beginning."""
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        if self._said:
            protocol.data_received(bytes(self._said))

    def abort(self) -> None:
        """End it."""
        self._waiting.pop(self, None)
        self._transport.abort()


def _keep_little_unsent(listener: socket.socket) -> None:
    """Let the kernel take little more than what may travel now (``TCP_NOTSENT_LOWAT``, tcp(7)).

    It takes megabytes otherwise, and only when a third of them is gone does it tell: whether a
    client reads at all could not be seen for minutes, and a slow one would be told old news.
    """
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES_MAX)
