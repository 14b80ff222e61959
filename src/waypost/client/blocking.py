"""The same verbs for code that blocks: scripts, threads, WSGI.

A thread of its own runs the asyncio client, so there is one body of decisions; each verb waits for
its result.  May be used by any number of threads.  Picking does not go through that thread: it
looks at the same memory.

A forked child starts anew when it first asks for something: a thread, a connection and a session of
its own.  The parent's connection is the parent's (``connection.drop_in_child``), and so is what it
registered: in a child, leaving its ``with`` block does nothing.  What is still open when the
process ends is closed then, which deregisters.
"""

import atexit
import os
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from waypost import wire
from waypost.balance import DEFAULT_POLICY
from waypost.client.answers import Answer, ServiceList
from waypost.client.asking import CLOSED
from waypost.client.blocking_views import BlockingService, BlockingWatch
from waypost.client.check import Check
from waypost.client.driver import Driver
from waypost.client.provider import Registration
from waypost.client.registrations import State
from waypost.client.registry import GRACE_DEFAULT_S, TTL_DEFAULT_S, Registry
from waypost.client.service import Service
from waypost.client.watching import Watch
from waypost.errors import Rejected, Unavailable, WaypostError
from waypost.model import (
    Health,
    HealthFilter,
    Instance,
    ServiceName,
)

_T = TypeVar("_T")
_H = TypeVar("_H")
CLOSE_S: Final = 5.0


class BlockingRegistry:
    """A registry, as this process sees it, for blocking code.  Made by ``waypost.connect``."""

    def __init__(self, open_registry: Callable[[], Registry]) -> None:
        self._open = open_registry
        self._lock = threading.Lock()
        self._driver: Driver | None = None
        self._abandoned: list[Driver] = []
        """Inherited by a fork: kept, so that nothing of them is ever finalised here."""
        self._is_closed = False
        _open_registries.add(self)

    # Providers

    def register(
        self,
        service: ServiceName,
        *,
        port: int,
        host: str | None = None,
        id: str | None = None,
        weight: float | None = None,
        zone: str = "",
        version: str = "",
        tags: Sequence[str] = (),
        meta: Mapping[str, str] | None = None,
        ports: Mapping[str, int] | None = None,
        ttl: float = TTL_DEFAULT_S,
        grace: float = GRACE_DEFAULT_S,
        health: Health = "passing",
        checks: Sequence[Check] | None = None,
    ) -> "BlockingRegistration":
        """Register an instance of a service, and keep it registered: see ``Registry.register``.

        Returns once it is done.  In ``with registry.register(...):`` it is deregistered at the end
        of the block.
        """
        driver = self.driver()
        registering = driver.registry.register(
            service,
            port=port,
            host=host,
            id=id,
            weight=weight,
            zone=zone,
            version=version,
            tags=tags,
            meta=meta,
            ports=ports,
            ttl=ttl,
            grace=grace,
            health=health,
            checks=checks,
        )
        return BlockingRegistration(driver, driver.run(registering.start()))

    def deregister(self, service: ServiceName, id: str) -> None:
        """Remove an instance, whoever registered it; ``UnknownInstance`` if there is none."""
        self._run(lambda registry: registry.deregister(service, id))

    def drain(self, service: ServiceName, id: str, deadline: float = 10.0) -> wire.Drained:
        """Take an instance out of new picks; returns once every consumer has noticed."""
        return self._run(lambda registry: registry.drain(service, id, deadline))

    # Consumers

    def resolve(
        self,
        service: ServiceName,
        *,
        health: HealthFilter = "resolvable",
        tags: Sequence[str] = (),
        zone: str = "",
        version: str = "",
        meta: Mapping[str, str] | None = None,
        consistency: wire.Consistency = "default",
        max_stale: float | None = None,
    ) -> Answer:
        """Ask which instances of a service there are: see ``Registry.resolve``."""
        return self._run(
            lambda registry: registry.resolve(
                service,
                health=health,
                tags=tags,
                zone=zone,
                version=version,
                meta=meta,
                consistency=consistency,
                max_stale=max_stale,
            )
        )

    def services(self) -> ServiceList:
        """List every service that has an instance."""
        return self._run(lambda registry: registry.services())

    def checks(self, service: ServiceName) -> wire.Checked:
        """Ask what the checks of a service's instances found last, the worst first."""
        return self._run(lambda registry: registry.checks(service))

    def service(
        self,
        name: ServiceName,
        policy: str = DEFAULT_POLICY,
        *,
        tags: Sequence[str] = (),
        zone: str = "",
        version: str = "",
        meta: Mapping[str, str] | None = None,
    ) -> BlockingService:
        """Give a live view of a service to pick from: see ``Registry.service``."""

        async def begin(registry: Registry) -> Service:
            return registry.service(name, policy, tags=tags, zone=zone, version=version, meta=meta)

        return BlockingService(self.driver, begin)

    def watch(self, name: ServiceName | None = None) -> BlockingWatch:
        """Follow a service, or all of them: each instance as ``up``, then every change, once."""

        async def begin(registry: Registry) -> Watch:
            return registry.watch(name)

        return BlockingWatch(self.driver, begin)

    def status(self) -> wire.NodeStatus:
        """Ask the node that this client is connected to how it is."""
        return self._run(lambda registry: registry.status())

    # Life

    def close(self) -> None:
        """Deregister all that this process registered, and disconnect.  Twice does nothing."""
        _open_registries.discard(self)
        with self._lock:
            driver, self._driver = self._driver, None
            self._is_closed = True
        if driver is not None:
            driver.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def driver(self) -> Driver:
        """The thread that does the work; started by whoever needs it first."""
        with self._lock:
            if self._is_closed:
                raise Unavailable(CLOSED)
            if self._driver is None:
                self._driver = Driver(self._open)
            return self._driver

    def abandon_in_child(self) -> None:
        """Leave all that was inherited to the parent: this process will start its own."""
        self._lock = threading.Lock()  # another thread of the parent may have held it
        if self._driver is not None:
            self._abandoned.append(self._driver)
            self._driver = None

    def _run(self, verb: Callable[[Registry], Coroutine[Any, Any, _T]]) -> _T:
        driver = self.driver()
        return driver.run(verb(driver.registry))


class BlockingRegistration:
    """One registered instance, for blocking code: see ``Registration``."""

    def __init__(self, driver: Driver, registration: Registration) -> None:
        self._driver = driver
        self._registration = registration
        self._pid = os.getpid()

    @property
    def instance(self) -> Instance:
        """What is registered, with the incarnation that the registry gave it."""
        return self._registration.instance

    @property
    def state(self) -> State:
        """``pending``, ``registered``, ``leaving``, ``left``, ``superseded`` or ``refused``."""
        return self._registration.state

    @property
    def error(self) -> WaypostError | None:
        """Why it is not registered any more, if that was not asked for here."""
        return self._registration.error

    def set_health(self, health: Health, why: str = "") -> None:
        """Declare how the instance is, and why."""
        self._own().run(self._registration.set_health(health, why))

    def update(
        self,
        *,
        weight: float | None = None,
        zone: str | None = None,
        version: str | None = None,
        tags: Sequence[str] | None = None,
        meta: Mapping[str, str] | None = None,
        checks: Sequence[Check] | None = None,
    ) -> None:
        """Change what is registered; what is left out stays as it is."""
        self._own().run(
            self._registration.update(
                weight=weight, zone=zone, version=version, tags=tags, meta=meta, checks=checks
            )
        )

    def drain(self, deadline: float = 10.0) -> wire.Drained:
        """Take the instance out of new picks, and wait until every consumer has noticed."""
        return self._own().run(self._registration.drain(deadline))

    def deregister(self) -> None:
        """Remove the instance; one that has ended already is left as it is."""
        self._own().run(self._registration.deregister())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if os.getpid() == self._pid:
            with suppress(Unavailable):  # closed already, and so deregistered
                self._driver.run(self._registration.leave())

    def _own(self) -> Driver:
        if os.getpid() != self._pid:
            raise Rejected(
                f"{self.instance.id!r} was registered by process {self._pid}, which this one was "
                "forked from: it is that one's to change; register your own"
            )
        return self._driver


_open_registries: set[BlockingRegistry] = set()


def _close_all() -> None:
    for registry in list(_open_registries):
        registry.close()


def _abandon_all() -> None:
    for registry in list(_open_registries):
        registry.abandon_in_child()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
