"""Live views and watches for code that blocks: what ``service`` and ``watch`` are in ``client``.

Each lives on the thread of its registry; a forked child begins it anew on its own.
"""

from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from waypost.balance import Endpoint
from waypost.client.driver import Driver
from waypost.client.registry import Registry
from waypost.client.service import Begun, Service, went_well
from waypost.client.watching import Watch
from waypost.errors import Unavailable
from waypost.model import Change, Instance, Record, Revision, ServiceName, Source

_H = TypeVar("_H")


class _Living(Generic[_H]):
    """Something that lives on a registry's driver; begun anew on each driver, as after a fork."""

    def __init__(
        self,
        driver: Callable[[], Driver],
        begin: Callable[[Registry], Coroutine[Any, Any, _H]],
    ) -> None:
        self._driver = driver
        self._begin = begin
        self._live: tuple[Driver, _H] | None = None
        self.live()

    def live(self) -> tuple[Driver, _H]:
        """The thing, and the driver that it lives on."""
        driver = self._driver()
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
        if not service.is_ready:
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
        self,
        driver: Callable[[], Driver],
        begin: Callable[[Registry], Coroutine[Any, Any, Watch]],
    ) -> None:
        self._taken: deque[Change] = deque()
        self._is_closed = False
        super().__init__(driver, begin)

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
