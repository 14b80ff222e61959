"""The native port of a node: it is open before the node is there, and who answers may change.

While a machine looks for its cluster, others that do the same are answered on it; afterwards the
doors of the node are behind it.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

BACKLOG: Final = 4096
_UNSENT_BYTES_MAX: Final = 128 << 10


class NativePort:
    """One listening port."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self.enter: Callable[[], asyncio.Protocol] = asyncio.Protocol
        """Makes what speaks with whoever connects from now on."""

    async def open(self) -> tuple[str, int]:
        """Listen; returns the host and the port that it got (a port of 0 asks for any)."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._made, self._host, self._port, backlog=BACKLOG)
        for listener in self._server.sockets:
            _keep_little_unsent(listener)
        address = self._server.sockets[0].getsockname()
        return address[0], address[1]

    def _made(self) -> asyncio.Protocol:
        return self.enter()

    def close(self) -> None:
        """Take no more connections."""
        if self._server is not None:
            self._server.close()

    async def closed(self) -> None:
        """Wait until it is closed, and all connections on it are."""
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None


def _keep_little_unsent(listener: socket.socket) -> None:
    """Let the kernel take little more than what may travel now (``TCP_NOTSENT_LOWAT``, tcp(7)).

    It takes megabytes otherwise, and only when a third of them is gone does it tell: whether a
    client reads at all could not be seen for minutes, and a slow one would be told old news.
    """
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES_MAX)
