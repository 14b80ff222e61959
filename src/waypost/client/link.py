"""The connection to the registry: one at a time, always, whichever node it goes to.

Connects in the background and stays connected until it is closed, moving from address to address
by ``failover``.  A node that says that it is going is left before it goes: the next connection
stands before this one ends, so that no provider's connection ever breaks for it.  One that has
fallen silent is left likewise, long before its deadline, if another one answers.

Each node tells who the others are; who was given fewer addresses than there are members, and found
the others so, moves once, to any of them: or all clients would stay at the address that they have
in common.

Its listener hears ``connected`` as soon as a connection stands (what it says there travels first,
and together) and ``disconnected`` when it is lost.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from waypost.client.addresses import Address, parse_addresses
from waypost.client.connection import Connection, open_connection
from waypost.client.failover import Failover
from waypost.client.identity import Identity
from waypost.errors import Invalid, Unavailable, WaypostError

log = logging.getLogger("waypost")

RETIRE_S: Final = 1.0
CLOSE_S: Final = 1.0
MOVE_WITHIN_S: Final = 0.1
"""Those whom one node tells to go arrive at the others at random within this time."""
STILL_HERE_S: Final = 1.0
"""How long, about, until one that was told to go and could not tries again."""
SPREAD_S: Final = 2.0


class Listener(Protocol):
    """Who must know of each new connection."""

    def connected(self, connection: Connection) -> None:
        """Everything goes over this connection from now on."""
        ...

    def disconnected(self) -> None:
        """There is no connection now."""
        ...


class Link:
    """Keeps one connection to a registry of one address or several."""

    def __init__(
        self,
        addresses: Sequence[Address],
        listener: Listener,
        *,
        connect_timeout_s: float,
        draw: Callable[[], float],
        identity: Identity,
    ) -> None:
        self._draw = draw
        self._identity = identity
        self._spreading: asyncio.TimerHandle | None = None
        self._failover = Failover(addresses, draw)
        self._listener = listener
        self._connect_timeout_s = connect_timeout_s
        self._connection: Connection | None = None
        self._has_connected = False
        self._is_closed = False
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._leave: asyncio.Future[None] = self._loop.create_future()
        self._task = self._loop.create_task(self._run(), name="waypost link")

    @property
    def connection(self) -> Connection | None:
        """The connection, if there is one now."""
        connection = self._connection
        return connection if connection is not None and connection.is_open else None

    @property
    def has_choice(self) -> bool:
        """Whether the registry has several addresses."""
        return self._failover.has_choice

    async def connected(self, *, patient: bool = True) -> Connection:
        """Wait for a connection.

        Raises ``Unavailable`` as soon as every address has failed, unless it is ``patient`` and
        has been connected before: then the registry is expected back, and the caller's deadline
        decides.
        """
        while True:
            if self._is_closed:
                raise Unavailable("this client is closed: open another one")
            if (connection := self.connection) is not None:
                return connection
            if self._failover.has_tried_all and not (patient and self._has_connected):
                raise self.unavailable()
            await self._changed.wait()

    def unavailable(self) -> Unavailable:
        """The error that says why there is no connection."""
        whys = self._failover.whys() or "not connected yet"
        return Unavailable(
            f"no registry could be reached ({whys}): start one with 'waypost serve', or give the "
            "address of yours, as an argument or as $WAYPOST"
        )

    async def elsewhere(self, than: Connection, *, able: bool = False) -> Connection:
        """Open a connection of its own to another node, for the caller to close.

        ``able`` is one that knows of a leader, and so can do what needs a majority.
        """
        whys: list[str] = []
        for address in self._failover.others:
            if address == than.address:
                continue
            try:
                other = await open_connection(address, self._connect_timeout_s, self._identity)
            except WaypostError as error:
                whys.append(f"{address}: {error}")
                continue
            if _is_same_node(other, than):
                other.abort("it is the same node under another name")
            elif able and other.welcome.members and not other.welcome.leader:
                other.abort("it knows of no leader")
                whys.append(f"{address}: it knows of no leader")
            else:
                return other
        raise Unavailable("no other node answers: " + ("; ".join(whys) or "there is none"))

    def leave(self) -> None:
        """Move to another node, if there is one: this one cannot do its work."""
        if not self._leave.done():
            self._leave.set_result(None)

    def hurry(self, within_ms: int) -> None:
        """Never wait longer than that before the next attempt, once a connection is lost."""
        self._failover.wait_ms_max = min(self._failover.wait_ms_max, within_ms)

    async def close(self) -> None:
        """End the connection, after what has been said, and make no other."""
        self._is_closed = True
        if self._spreading is not None:
            self._spreading.cancel()
        self._task.cancel()
        await asyncio.wait([self._task])
        self._tell_waiters()
        if (connection := self._connection) is not None:
            self._connection = None
            connection.close()
            await asyncio.wait([connection.closed], timeout=CLOSE_S)
            connection.abort("closed by this client")

    async def _run(self) -> None:
        while True:
            attempt = self._failover.next()
            await asyncio.sleep(attempt.wait_ms / 1000)
            try:
                connection = await open_connection(
                    attempt.address, self._connect_timeout_s, self._identity
                )
            except WaypostError as error:
                self._failover.failed(attempt.address, str(error))
                log.debug("%s: %s", attempt.address, error)
                self._tell_waiters()
            else:
                await self._stay(connection)

    async def _stay(self, connection: Connection) -> None:
        """Use a connection, and those that take its place, until one is lost."""
        self._use(connection)
        while True:
            first: list[asyncio.Future[str] | asyncio.Future[None]]
            first = [connection.closed, self._leave]
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if connection.closed.done():
                break
            self._leave = self._loop.create_future()
            successor = await self._successor(connection)
            if successor is None:
                if self.has_choice and connection.is_told_to_go:
                    wait_s = STILL_HERE_S * (0.5 + self._draw())
                    self._loop.call_later(wait_s, self._still_here, connection)
            else:
                self._use(successor)
                if connection.is_silent:
                    connection.abort("it is silent, and another node took over")
                else:
                    connection.retire(RETIRE_S)
                connection = successor
        self._connection = None
        why = connection.closed.result()
        lived_ms = int((self._loop.time() - connection.opened_at) * 1000)
        self._failover.lost(connection.address, why, lived_ms)
        log.warning("lost the registry at %s: %s", connection.address, why)
        self._listener.disconnected()
        self._tell_waiters()

    async def _successor(self, connection: Connection) -> Connection | None:
        if not self.has_choice:
            return None
        await asyncio.wait([connection.closed], timeout=MOVE_WITHIN_S * self._draw())
        try:
            return await self.elsewhere(connection, able=True)
        except Unavailable as error:
            log.info("%s is to be left, and %s", connection.address, error)
            return None

    def _still_here(self, connection: Connection) -> None:
        if connection is self.connection:
            self.leave()

    def _use(self, connection: Connection) -> None:
        self._connection = connection
        self._leave = self._loop.create_future()
        connection.on_going = connection.on_silent = self.leave
        self._failover.moved(connection.address)
        self._learn(connection)
        self._has_connected = True
        log.info("connected to the registry at %s", connection.address)
        self._listener.connected(connection)
        self._tell_waiters()

    def _learn(self, connection: Connection) -> None:
        members: list[Address] = []
        for text in connection.welcome.members:
            try:
                members += parse_addresses(text)
            except Invalid as error:
                log.info("%s names a member that cannot be: %s", connection.address, error)
        has_found = bool(self._failover.learn(members))
        if has_found and not self._has_connected:
            wait_s = SPREAD_S * (0.5 + self._draw())
            self._spreading = self._loop.call_later(wait_s, self._spread)

    def _spread(self) -> None:
        """Move to another node, but for the share of the clients that belongs to this one."""
        if self._draw() * len(self._failover.others) >= 1:
            self.leave()

    def _tell_waiters(self) -> None:
        self._changed.set()
        self._changed.clear()


def _is_same_node(a: Connection, b: Connection) -> bool:
    return (a.welcome.cluster, a.welcome.node) == (b.welcome.cluster, b.welcome.node)
