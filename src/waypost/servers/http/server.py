"""Listens for HTTP: Granian, embedded in the node's event loop.

Granian parses and writes HTTP in threads of its own, outside of Python, and runs the application on
the loop that it is started on.  It is left none of what belongs to the program: the socket is bound
here (so that a taken port is an error, where Granian would share it by SO_REUSEPORT, and port 0 is
known), signals stay the program's, and its log lines go the way of all others.
"""

import asyncio
import logging
import socket
import sys
from collections.abc import Mapping
from typing import Any, Final

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server

from waypost.node.registry import Registry
from waypost.servers.http.app import App
from waypost.servers.web.mounted import NOTHING, Mounted
from waypost.servers.web.requests import HEAD_BYTES_MAX, URL_BYTES_MAX

log = logging.getLogger("waypost.http")

BACKLOG: Final = 1024
CONNECTIONS_MAX: Final = 16_384
IDLE_MS: Final = 30_000
"""How long a connection may take to send a request's head, or be idle between two."""
UNREAD_MS: Final = 30_000
"""How long a client may leave what it was sent unread before the kernel drops it (RFC 5482)."""
STOP_S: Final = 0.8

_LOGGING: Final = {
    # Incremental: anything else would close the handlers of the whole program.
    "incremental": True,
    "formatters": {},
    "handlers": {},
    "loggers": {"_granian": {"propagate": True}},
}


class HttpServer:
    """The HTTP door of one node."""

    def __init__(
        self, registry: Registry, host: str, port: int, mounted: Mapping[str, Mounted] = NOTHING
    ) -> None:
        self._app = App(registry, mounted)
        self._host = host
        self._port = port
        self._server: _Embedded | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> tuple[str, int]:
        """Listen; returns the host and the port that it got (a port of 0 asks for any).

        Raises ``OSError`` at once if the address is taken or is not one of this machine.
        """
        listener = await _listen(self._host, self._port)
        address: tuple[str, int] = listener.getsockname()[:2]
        self._server = _Embedded(self._app, listener)
        self._serving = asyncio.create_task(self._server.serve())
        return address

    async def stop(self) -> None:
        """Take no more connections, end every stream, and let answers that are due go out.

        Takes a second at most; what is not over by then is dropped.
        """
        if self._server is None or self._serving is None:
            return
        self._app.close()
        self._server.stop()  # type: ignore[no-untyped-call]
        _, running = await asyncio.wait((self._serving,), timeout=STOP_S)
        if running:
            self._app.abandon()
            _, running = await asyncio.wait((self._serving,), timeout=0.1)
        if running:
            log.info("a client does not read its last answer: its connection is left to the kernel")
        self._server = self._serving = None


class _Embedded(Server):
    """Granian's server on a socket that is bound already."""

    def __init__(self, app: App, listener: socket.socket) -> None:
        super().__init__(
            app,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,  # HTTP/2 would hold back no writer of a stream that nobody reads
            websockets=False,
            backlog=BACKLOG,
            backpressure=CONNECTIONS_MAX,
            http1_settings=HTTP1Settings(
                header_read_timeout=IDLE_MS, max_buffer_size=2 * (URL_BYTES_MAX + HEAD_BYTES_MAX)
            ),
            log_dictconfig=_LOGGING,
            log_level=LogLevels.error,
        )
        self._listener = listener

    def _init_shared_socket(self) -> None:
        make: Any = SocketHolder  # its stub leaves the arguments out
        is_uds = False
        if sys.platform.startswith(("linux", "freebsd")):
            self._shd = make(self._listener.detach(), is_uds, BACKLOG)
        else:
            self._shd = make(self._listener.detach(), is_uds)


async def _listen(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
    )
    family, _, _, _, address = found[0]
    listener = socket.create_server((address[0], port), family=family, backlog=BACKLOG)
    # Connections inherit these from the socket that accepts them.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
    return listener
