"""The DNS door of a node: UDP and TCP on one port, and whom to ask for the names of others."""

import asyncio
import errno
import ipaddress
import random
import time
from typing import Final

from waypost.node.registry import Registry
from waypost.servers.dns.answers import Zone
from waypost.servers.dns.catalog_view import CatalogView
from waypost.servers.dns.connection import Connection
from waypost.servers.dns.counts import Counts
from waypost.servers.dns.datagrams import Address, Datagrams, Send
from waypost.servers.dns.following import read_records, write_question
from waypost.servers.dns.forwarding import Forwarder
from waypost.servers.dns.hosts import read_host
from waypost.servers.dns.message import REFUSED, SERVFAIL, Question
from waypost.servers.dns.replies import Alias, Replies
from waypost.servers.dns.settings import DnsSettings

_TRIES: Final = 16


class DnsServer:
    """The DNS door of one node."""

    def __init__(
        self, registry: Registry, host: str, port: int, settings: DnsSettings | None = None
    ) -> None:
        settings = settings or DnsSettings()
        self._host = host
        self._port = port
        self._registry = registry
        self._counts = Counts()
        self._known = CatalogView(registry)
        self._zone = Zone(self._known, settings, random.random)
        self._forwarder = Forwarder(settings.forward) if settings.forward else None
        self._replies = Replies(
            self._known,
            self._zone,
            random.random,
            time.monotonic,
            forwards=self._forwarder is not None,
        )
        self._datagrams: list[Datagrams] = []
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> tuple[str, int]:
        """Listen; returns the host and the port that it got (a port of 0 asks for any)."""
        for _ in range(_TRIES):
            if (address := await self._open()) is not None:
                break
        else:
            raise OSError(errno.EADDRINUSE, "no port was free for UDP and TCP alike")
        self._zone.own_address = self._own_address(address[0])
        for each in self._datagrams:
            asyncio.get_running_loop().add_reader(each, each.on_readable)
        self._registry.count_also(self._counts.metrics)
        return address

    async def _open(self) -> tuple[str, int] | None:
        """Open both; None if the port that TCP got by chance is taken for UDP."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connected, self._host, self._port)
        try:
            for listener in self._server.sockets:  # a host name may be several addresses
                address: Address = listener.getsockname()
                self._datagrams.append(
                    Datagrams(
                        listener.family,
                        address,
                        self._replies.reply,
                        self._ask_elsewhere,
                        self._counts,
                    )
                )
        except OSError as error:
            self._close_datagrams()
            self._server.close()
            await self._server.wait_closed()
            if self._port or error.errno != errno.EADDRINUSE:
                raise
            return None
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    def _close_datagrams(self) -> None:
        for each in self._datagrams:
            each.close()
        self._datagrams.clear()

    def _own_address(self, host: str) -> bytes | None:
        """Where others reach this server, if that is known: where it listens, or is advertised."""
        own = read_host(host)
        if isinstance(own, bytes) and not any(own):  # 0.0.0.0 is every address
            own = read_host(self._known.advertised_host)
        return own if isinstance(own, bytes) and any(own) else None

    async def stop(self) -> None:
        """Close everything; who waits for an answer of others waits in vain."""
        for each in self._datagrams:
            asyncio.get_running_loop().remove_reader(each)
        self._close_datagrams()
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

    def _connected(self) -> Connection:
        return Connection(self._connections, self._answer_connection, self._counts)

    def _answer_connection(self, connection: Connection, data: bytes) -> None:
        reply = self._replies.reply(data, over_tcp=True)
        if isinstance(reply, bytes):
            connection.send(reply)
        elif reply is not None:
            self._ask_elsewhere(data, reply, connection.peer, connection.send, over_tcp=True)
        else:
            self._counts.ignored += 1

    def _ask_elsewhere(
        self,
        data: bytes,
        about: Question | Alias,
        sender: Address,
        send: Send,
        *,
        over_tcp: bool = False,
    ) -> None:
        """Forward a query for a name of others, if that is wanted, or refuse it."""
        forwarder = self._forwarder
        question = about.question if isinstance(about, Alias) else about
        if forwarder is None or not question.wants_recursion or not _is_near(sender[0]):
            send(self._unasked(data, about, REFUSED, over_tcp=over_tcp))
        elif forwarder.is_full:
            send(self._unasked(data, about, SERVFAIL, over_tcp=over_tcp))
        else:
            self._counts.forwarded += 1
            asking = self._answer_elsewhere(forwarder, data, about, send, over_tcp=over_tcp)
            task = asyncio.get_running_loop().create_task(asking)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _unasked(self, data: bytes, about: Question | Alias, code: int, *, over_tcp: bool) -> bytes:
        """The reply without what others know."""
        if isinstance(about, Alias):
            return self._replies.told(data, about, (), over_tcp=over_tcp)
        return self._replies.refuse(data, about, code)

    async def _answer_elsewhere(
        self,
        forwarder: Forwarder,
        data: bytes,
        about: Question | Alias,
        send: Send,
        *,
        over_tcp: bool,
    ) -> None:
        if isinstance(about, Alias):
            query = write_question(about.target, about.question.kind)
            answer = await forwarder.ask(query, len(query), over_tcp=over_tcp)
            records = read_records(answer, len(query)) if answer else []
            send(self._replies.told(data, about, records, over_tcp=over_tcp))
        else:
            answer = await forwarder.ask(data, about.end, over_tcp=over_tcp)
            send(answer or self._replies.refuse(data, about, SERVFAIL))


def _is_near(host: str) -> bool:
    """Whether a client may have us ask others: nobody on the public network may."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return address.is_private or address.is_loopback or address.is_link_local
