"""Listens for DNS queries by UDP and by TCP, on one port.

Datagrams are read until there is none, or a batch of them is answered: one turn of the event loop
for many queries, and never so many that others wait long.  A reply that the kernel does not take
is dropped, as the network may do with any datagram.
"""

import asyncio
import errno
import functools
import ipaddress
import logging
import random
import socket
from collections.abc import Callable
from typing import Any, Final

from waypost.node.registry import Registry
from waypost.servers.dns.answers import Zone
from waypost.servers.dns.catalog_view import CatalogView
from waypost.servers.dns.connection import Connection
from waypost.servers.dns.forwarding import Forwarder
from waypost.servers.dns.hosts import read_host
from waypost.servers.dns.message import QUERY_BYTES_MAX, SERVFAIL, Question
from waypost.servers.dns.replies import Replies
from waypost.servers.dns.settings import DnsSettings

log = logging.getLogger("waypost.dns")

BATCH: Final = 64
RECEIVE_BYTES: Final = 4 << 20
_TRIES: Final = 16
_Address = tuple[Any, ...]


class DnsServer:
    """The DNS door of one node."""

    def __init__(
        self, registry: Registry, host: str, port: int, settings: DnsSettings | None = None
    ) -> None:
        settings = settings or DnsSettings()
        self._host = host
        self._port = port
        self._known = CatalogView(registry)
        self._zone = Zone(self._known, settings)
        self._forwarder = Forwarder(settings.forward) if settings.forward else None
        self._replies = Replies(
            self._known, self._zone, random.random, forwards=self._forwarder is not None
        )
        self._datagrams: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> tuple[str, int]:
        """Listen; returns the host and the port that it got (a port of 0 asks for any)."""
        loop = asyncio.get_running_loop()
        for attempt in range(_TRIES):
            self._server = await loop.create_server(self._connected, self._host, self._port)
            listener = self._server.sockets[0]
            address = listener.getsockname()
            try:
                self._datagrams = _bound(listener.family, address)
            except OSError as error:
                self._server.close()
                await self._server.wait_closed()
                is_last = self._port != 0 or attempt == _TRIES - 1
                if is_last or error.errno != errno.EADDRINUSE:
                    raise
            else:
                break
        assert self._datagrams is not None
        own = read_host(address[0])
        if isinstance(own, bytes) and any(own):  # 0.0.0.0 is every address, and so none to tell
            self._zone.own_address = own
        loop.add_reader(self._datagrams, self._on_readable)
        return address[0], address[1]

    async def stop(self) -> None:
        """Close everything; who waits for an answer of others waits in vain."""
        if self._datagrams is not None:
            asyncio.get_running_loop().remove_reader(self._datagrams)
            self._datagrams.close()
            self._datagrams = None
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None
        self._known.close()

    def _on_readable(self) -> None:
        datagrams, reply_to = self._datagrams, self._replies.reply
        assert datagrams is not None
        for _ in range(BATCH):
            try:
                data, sender = datagrams.recvfrom(QUERY_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError as error:  # an earlier reply bounced
                log.debug("a datagram was not read: %s", error)
                continue
            reply = reply_to(data)
            if isinstance(reply, bytes):
                self._send(sender, reply)
            elif reply is not None:
                self._ask_elsewhere(data, reply, sender, functools.partial(self._send, sender))

    def _send(self, sender: _Address, reply: bytes) -> None:
        try:
            self._datagrams.sendto(reply, sender)  # type: ignore[union-attr]
        except OSError as error:
            log.debug("a reply to %s was not sent: %s", sender, error)

    def _connected(self) -> Connection:
        return Connection(self._connections, self._answer_connection)

    def _answer_connection(self, connection: Connection, data: bytes) -> None:
        reply = self._replies.reply(data, over_tcp=True)
        if isinstance(reply, bytes):
            connection.send(reply)
        elif reply is not None:
            self._ask_elsewhere(data, reply, connection.peer, connection.send, over_tcp=True)

    def _ask_elsewhere(
        self,
        data: bytes,
        question: Question,
        sender: _Address,
        send: Callable[[bytes], None],
        *,
        over_tcp: bool = False,
    ) -> None:
        """Forward a query for a name of others, if that is wanted, or refuse it."""
        forwarder = self._forwarder
        if forwarder is None or not question.wants_recursion or not _is_near(sender[0]):
            send(self._replies.refuse(data, question))
        elif forwarder.is_full:
            send(self._replies.refuse(data, question, SERVFAIL))
        else:
            asking = self._answer_elsewhere(forwarder, data, question, send, over_tcp=over_tcp)
            task = asyncio.get_running_loop().create_task(asking)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer_elsewhere(
        self,
        forwarder: Forwarder,
        data: bytes,
        question: Question,
        send: Callable[[bytes], None],
        *,
        over_tcp: bool,
    ) -> None:
        answer = await forwarder.ask(data, question.end, over_tcp=over_tcp)
        send(answer or self._replies.refuse(data, question, SERVFAIL))


def _bound(family: int, address: _Address) -> socket.socket:
    datagrams = socket.socket(family, socket.SOCK_DGRAM)
    try:
        datagrams.setblocking(False)
        datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        if family == socket.AF_INET6:
            datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, True)
        datagrams.bind(address)
    except BaseException:
        datagrams.close()
        raise
    return datagrams


def _is_near(host: str) -> bool:
    """Whether a client may have us ask others: nobody on the public network may."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return address.is_private or address.is_loopback or address.is_link_local
