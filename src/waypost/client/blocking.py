"""The same verbs for code that blocks: scripts, threads, WSGI.

A thread of its own runs the asyncio client, so there is one body of decisions; each verb waits for
its result.  May be used by any number of threads.  Picking does not go through that thread: it
looks at the same memory.

A forked child starts anew when it first asks for something: a thread, a connection and a session of
its own.  The parent's connection is the parent's (``connection.drop_in_child``), and so is what it
registered: in a child, leaving its ``with`` block does nothing.  What is still open when the
process ends is closed then, which deregisters.
"""

import asyncio
import atexit
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from waypost import wire
from waypost.balance import DEFAULT_POLICY, Endpoint
from waypost.client.provider import Registration
from waypost.client.registrations import State
from waypost.client.registry import (
    GRACE_DEFAULT_S,
    TTL_DEFAULT_S,
    Answer,
    Registering,
    Registry,
    ServiceList,
)
from waypost.client.service import Begun, Service, went_well
from waypost.client.watching import Watch
from waypost.errors import Rejected, Unavailable, WaypostError
from waypost.model import (
    Change,
    Health,
    HealthFilter,
    Instance,
    Record,
    Revision,
    ServiceName,
    Source,
)

_T = TypeVar("_T")
_H = TypeVar("_H")
CLOSE_S: Final = 5.0


class _Driver:
    """A thread that runs an event loop with one ``Registry`` on it."""

    def __init__(self, open_registry: Callable[[], Registry]) -> None:
        # Not uvloop, whatever the policy: a loop that was forked away must be safe to abandon.
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._serve, name="waypost client", daemon=True)
        self._thread.start()

        async def open_it() -> Registry:
            return open_registry()

        self.registry = self.run(open_it())

    def run(self, what: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine there and wait for its result; an interrupt cancels it."""
        if not self._thread.is_alive():
            what.close()
            raise Unavailable("this client is closed: open another with waypost.connect()")
        future = asyncio.run_coroutine_threadsafe(what, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def stop(self) -> None:
        """Close the registry, and end the thread."""
        with suppress(WaypostError):
            self.run(self.registry.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_S)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


class BlockingRegistry:
    """A registry, as this process sees it, for blocking code.  Made by ``waypost.connect``."""

    def __init__(self, open_registry: Callable[[], Registry]) -> None:
        self._open = open_registry
        self._lock = threading.Lock()
        self._driver: _Driver | None = None
        self._abandoned: list[_Driver] = []
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
    ) -> "BlockingRegistration":
        """Register an instance of a service, and keep it registered: see ``Registry.register``.

        Returns once it is done.  In ``with registry.register(...):`` it is deregistered at the end
        of the block.
        """

        def begin(registry: Registry) -> Registering:
            return registry.register(
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
            )

        driver = self.driver()

        async def register() -> Registration:
            return await begin(driver.registry)

        return BlockingRegistration(self, driver, driver.run(register()))

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

    def service(
        self,
        name: ServiceName,
        policy: str = DEFAULT_POLICY,
        *,
        tags: Sequence[str] = (),
        zone: str = "",
        version: str = "",
        meta: Mapping[str, str] | None = None,
    ) -> "BlockingService":
        """Give a live view of a service to pick from: see ``Registry.service``."""

        async def begin(registry: Registry) -> Service:
            return registry.service(name, policy, tags=tags, zone=zone, version=version, meta=meta)

        return BlockingService(self, begin)

    def watch(self, name: ServiceName | None = None) -> "BlockingWatch":
        """Follow a service, or all of them: each instance as ``up``, then every change, once."""

        async def begin(registry: Registry) -> Watch:
            return registry.watch(name)

        return BlockingWatch(self, begin)

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

    def driver(self) -> _Driver:
        """The thread that does the work; started by whoever needs it first."""
        with self._lock:
            if self._is_closed:
                raise Unavailable("this client is closed: open another with waypost.connect()")
            if self._driver is None:
                self._driver = _Driver(self._open)
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

    def __init__(
        self, registry: BlockingRegistry, driver: _Driver, registration: Registration
    ) -> None:
        self._registry = registry
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
    ) -> None:
        """Change what is registered; what is left out stays as it is."""
        self._own().run(
            self._registration.update(
                weight=weight, zone=zone, version=version, tags=tags, meta=meta
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

    def _own(self) -> _Driver:
        if os.getpid() != self._pid:
            raise Rejected(
                f"{self.instance.id!r} was registered by process {self._pid}, which this one was "
                "forked from: it is that one's to change; register your own"
            )
        return self._driver


class _Living(Generic[_H]):
    """Something that lives on a registry's driver; begun anew on each driver, as after a fork."""

    def __init__(
        self, registry: BlockingRegistry, begin: Callable[[Registry], Coroutine[Any, Any, _H]]
    ) -> None:
        self._registry = registry
        self._begin = begin
        self._live: tuple[_Driver, _H] | None = None
        self.live()

    def live(self) -> tuple[_Driver, _H]:
        """The thing, and the driver that it lives on."""
        driver = self._registry.driver()
        if self._live is None or self._live[0] is not driver:
            self._live = driver, driver.run(self._begin(driver.registry))
        return self._live


class BlockingService(_Living[Service]):
    """The instances of a service, as this process knows them now: see ``Service``."""

    def ready(self) -> None:
        """Wait until the registry has answered, or what was last known has been found."""
        self._ready()

    @property
    def name(self) -> ServiceName:
        """Which service it is."""
        return self.live()[1].name

    @property
    def policy(self) -> str:
        """How one is chosen."""
        return self.live()[1].policy

    @property
    def records(self) -> tuple[Record, ...]:
        """All that is registered and meets the conditions, drained and unhealthy ones too."""
        return self._ready().records

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Those that may be picked now."""
        return self._ready().instances

    def pick(self) -> Instance:
        """Choose an instance by the policy; ``NoInstance`` says why there is none."""
        return self._ready().pick()

    def call(self) -> "BlockingCall":
        """Pick an instance for the body of a ``with``, and learn from how that goes."""
        return BlockingCall(self)

    def choose(self) -> tuple[Service, Endpoint]:
        """Choose as ``pick`` does, for ``Service.begin``."""
        service = self._ready()
        return service, service.choose()

    @property
    def revision(self) -> Revision:
        """The registry's revision that this is as of; 0 if it is not known."""
        return self.live()[1].revision

    @property
    def source(self) -> Source | None:
        """``follower`` while live, ``cache`` or ``disk`` while the registry is away."""
        return self.live()[1].source

    @property
    def as_of(self) -> float:
        """Unix time, in seconds, at which it was last known to be current."""
        return self.live()[1].as_of

    @property
    def age(self) -> float:
        """Seconds since it was last known to be current."""
        return self.live()[1].age

    def _ready(self) -> Service:
        driver, service = self.live()
        if service.source is None:
            driver.run(service.ready())
        return service


class BlockingCall:
    """One call of one instance, from pick to release, for ``with``."""

    __slots__ = ("_begun", "_service")

    def __init__(self, service: BlockingService) -> None:
        self._service = service
        self._begun: Begun | None = None

    def __enter__(self) -> Instance:
        service, endpoint = self._service.choose()
        self._begun = service.begin(endpoint)
        return self._begun.endpoint.instance

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._begun is not None
        self._begun.service.end(self._begun, went_well(error))


class BlockingWatch(_Living[Watch]):
    """Every change of a service, for ``for``: see ``Watch``.  Iterate over it in one thread.

    In a forked child it starts again, with what is there.
    """

    def __init__(
        self, registry: BlockingRegistry, begin: Callable[[Registry], Coroutine[Any, Any, Watch]]
    ) -> None:
        self._taken: deque[Change] = deque()
        self._is_closed = False
        super().__init__(registry, begin)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Change:
        if not self._taken and not self._is_closed:
            driver, watch = self.live()
            self._taken.extend(driver.run(watch.take()))
        if not self._taken:
            raise StopIteration
        return self._taken.popleft()

    def ready(self) -> None:
        """Wait until it is known what is there, be it nothing."""
        driver, watch = self.live()
        driver.run(watch.ready())

    @property
    def revision(self) -> Revision:
        """The revision up to which everything has been taken in."""
        return self.live()[1].revision

    @property
    def source(self) -> Source | None:
        """Where it comes from now: ``follower`` if live, else ``cache`` or ``disk``."""
        return self.live()[1].source

    @property
    def age(self) -> float:
        """Seconds since it was last known to be current."""
        return self.live()[1].age

    def close(self) -> None:
        """End it, also for a thread that waits for its next change.  Twice does nothing."""
        self._is_closed = True
        self._taken.clear()
        if self._live is not None:
            driver, watch = self._live

            async def close() -> None:
                watch.close()

            with suppress(Unavailable):  # the registry was closed, and the watch with it
                driver.run(close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


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
