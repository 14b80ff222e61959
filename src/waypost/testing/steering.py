"""What a test does to its registry, as it happens on the registry's event loop.

Always true: however far the clock is moved, whoever answers the registry's pings keeps its lease;
and when a verb returns, whatever it changed has been taken in by every client that answers.
"""

import asyncio
from collections.abc import Iterator
from typing import Final, Protocol
from urllib.parse import urlsplit

from waypost.errors import Invalid, UnknownInstance
from waypost.model import HealthFilter, Instance, Query, Record
from waypost.node.sessions import PINGS_PER_LEASE
from waypost.servers.native.connection import NativeConnection
from waypost.servers.native.server import NativeServer
from waypost.standalone import Standalone
from waypost.testing.clock import StandingClock
from waypost.testing.cut import Cut
from waypost.views import InstanceView, instance_view
from waypost.wire import DEADLINE_MS

ANSWER_S: Final = 0.5
"""How long a client may take, in real time, to answer a ping; one that takes longer hangs."""
_TURNS: Final = 50
"""Of the event loop, in which nearly every client has answered, and no time need be slept."""


class Registered(Protocol):
    """A registration of the client library."""

    @property
    def instance(self) -> Instance:
        """What is registered."""
        ...


class Providing(Protocol):
    """A ``ServiceProvider``."""

    @property
    def url(self) -> str:
        """Where it provides its service."""
        ...


Provider = str | Registered | Providing
"""Which provider: its id, its URL or ``host:port``, its registration or its ``ServiceProvider``."""


class Steering:
    """The verbs of ``TemporaryRegistry``."""

    def __init__(self, standalone: Standalone, clock: StandingClock) -> None:
        assert standalone.native is not None, "it has been started"
        self._standalone = standalone
        self._native: NativeServer = standalone.native
        self._node = standalone.node
        self._clock = clock
        self._cuts: dict[NativeConnection, tuple[Cut, list[Record]]] = {}
        self._pings = 0
        self._hung: set[NativeConnection] = set()
        """Who did not answer in time, and is not waited for until the end of this verb."""

    async def take_over(self) -> None:
        """Be the only one who lets anything become due."""
        self._node.tick_no_more()

    # Time

    async def advance(self, seconds: float) -> None:
        """Let time pass, in steps within which every client that lives can be heard."""
        if seconds < 0:
            raise Invalid(f"seconds: {seconds:g}: time does not go back", field="seconds")
        self._hung.clear()
        left_ns = round(seconds * 1e9)
        await self._hear()
        while left_ns > 0:
            step_ns = min(left_ns, self._step_ns())
            left_ns -= step_ns
            self._clock.move(step_ns)
            await self._hear()
            self._node.tick()
            await self._committed()
        await self._taken_in()

    async def settle(self) -> None:
        """Wait until every client has taken in what has happened so far."""
        self._hung.clear()
        await self._committed()
        await self._taken_in()

    async def _taken_in(self) -> None:
        """Wait until every watch has confirmed what it was told, as consumers do for a drain."""
        loop = asyncio.get_running_loop()
        until = loop.time() + ANSWER_S
        turns = 0
        while any(not each.conversation.has_confirmed for each in self._living()):
            if loop.time() > until:
                return
            turns = await _turn(turns)

    def _step_ns(self) -> int:
        leases = [held.ttl_ns for held in self._node.sessions if held.connection is not None]
        return min([DEADLINE_MS * 1_000_000, *leases]) // PINGS_PER_LEASE

    async def _hear(self) -> None:
        """Ping every client, and wait until all have answered but those that hang."""
        self._pings += 1
        ping = self._pings
        pinged: set[NativeConnection] = set()
        turns = 0
        loop = asyncio.get_running_loop()
        until = loop.time() + ANSWER_S
        while silent := [each for each in self._living() if each.echoed < ping]:
            if loop.time() > until:
                self._hung.update(silent)
                return
            for connection in silent:
                if connection not in pinged and connection.conversation.has_greeted:
                    pinged.add(connection)
                    connection.ping(ping)
            turns = await _turn(turns)

    def _living(self) -> Iterator[NativeConnection]:
        for connection in self._native.connections:
            if connection not in self._cuts and connection not in self._hung:
                yield connection

    async def _committed(self) -> None:
        while self._node.replica.waiting_commands:  # noqa: ASYNC110 - in memory, a turn or two
            await asyncio.sleep(0)

    # Misfortune

    async def silence(self, provider: Provider) -> None:
        """Hear nothing of a provider any more, as if its process hung."""
        self._cut(provider)
        await self.settle()

    async def kill(self, provider: Provider) -> None:
        """Find a provider's connection closed, as if its process had been killed."""
        self._cut(provider).break_off()
        await asyncio.sleep(0)
        await self.settle()

    async def revive(self, provider: Provider) -> None:
        """Let a provider that was silenced or killed reach the registry again."""
        for connection, (cut, records) in list(self._cuts.items()):
            if any(_is_it(record, provider) for record in records):
                del self._cuts[connection]
                cut.end()
                return
        raise UnknownInstance(f"{_shown(provider)} was neither silenced nor killed")

    def _cut(self, provider: Provider) -> Cut:
        connection = self._connection_of(provider)
        if connection in self._cuts:
            return self._cuts[connection][0]
        session = self._node.catalog.session(connection.conversation.session)
        assert session is not None, "it was found by its session"
        cut = Cut(connection, lambda: self._node.revision)
        self._cuts[connection] = cut, self._node.catalog.held(session)
        return cut

    def _connection_of(self, provider: Provider) -> NativeConnection:
        found = [record for record in self._records() if _is_it(record, provider)]
        if not found:
            there = ", ".join(_told(record) for record in self._records()) or "nobody"
            raise UnknownInstance(f"{_shown(provider)} is not registered; registered are: {there}")
        sessions = {record.session for record in found}
        if len(sessions) > 1:
            there = ", ".join(_told(record) for record in found)
            raise Invalid(f"provider: {_shown(provider)} may be any of {there}", field="provider")
        held = self._node.sessions.find(sessions.pop())
        connection = None if held is None else held.connection
        if not isinstance(connection, NativeConnection):
            raise Invalid(
                f"provider: {_shown(provider)} is not kept alive by a connection: let its lease "
                "end, or deregister it",
                field="provider",
            )
        return connection

    # Looking

    async def instances(
        self, service: str, health: HealthFilter = "resolvable"
    ) -> list[InstanceView]:
        """What a consumer would be told of a service, or with ``any`` all of it."""
        return [instance_view(record) for record in self._select(service, health)]

    def _select(self, service: str, health: HealthFilter = "resolvable") -> list[Record]:
        _, records = self._node.answers.select(service, Query(health=health))
        return records

    async def wait_for(self, service: str, instances: int, timeout: float) -> None:
        """Wait until a service has so many instances that a consumer may use."""
        try:
            async with asyncio.timeout(timeout):
                async for _ in self._standalone.registry.watch(service):
                    if len(self._select(service)) == instances:
                        break
        except TimeoutError:
            there = [record for record in self._records() if record.instance.service == service]
            raise AssertionError(
                f"{service} does not have {instances} usable instances after {timeout:g} s, but "
                f"{len(self._select(service))}; registered are: "
                + (", ".join(map(_told, there)) or "none")
            ) from None
        await self.settle()

    async def open_http(self) -> str:
        """Open the HTTP door, if it is not open, and tell where."""
        if not self._standalone.http_address:
            await self._standalone.open_http(0)
        return self._standalone.http_address

    def _records(self) -> Iterator[Record]:
        for name in self._node.catalog.service_names():
            yield from (self._node.catalog.service(name) or {}).values()

    # The end

    async def hang_up(self) -> None:
        """Drop every client for good: the test is over."""
        self._native.shut()
        for cut, _ in self._cuts.values():
            cut.end()
        for connection in self._native.connections:
            connection.abort()


async def _turn(turns: int) -> int:
    await asyncio.sleep(0 if turns < _TURNS else 0.001)
    return turns + 1


def _is_it(record: Record, provider: Provider) -> bool:
    instance = record.instance
    if isinstance(provider, str):
        where = urlsplit(provider).netloc if "://" in provider else provider
        return where in (
            instance.id,
            f"{instance.service}/{instance.id}",
            f"{instance.host}:{instance.port}",
        )
    registered = getattr(provider, "instance", None)
    if isinstance(registered, Instance):
        return (instance.service, instance.id) == (registered.service, registered.id)
    url = getattr(provider, "url", None)
    return isinstance(url, str) and _is_it(record, url)


def _shown(provider: Provider) -> str:
    if isinstance(provider, str):
        return repr(provider)
    registered = getattr(provider, "instance", None)
    return repr(registered.id if isinstance(registered, Instance) else provider)


def _told(record: Record) -> str:
    instance = record.instance
    suspect = ", suspect" if record.suspect else ""
    why = f": {record.why}" if record.why else ""
    return f"{instance.service}/{instance.id} ({record.health}{suspect}{why})"
