"""A live view of one service, to pick from: what a consumer holds.

A watch keeps it current; while the registry is away it serves what was last known, and says so.
Picking is a look at memory: no request and no waiting.  Calls made through ``call`` are counted,
timed and released whatever becomes of them, and feed the policy.

Kept current on one event loop, and picked from there or in other threads: the lock, a tenth of a
microsecond when nobody else holds it, is what ``Pool`` asks for then.
"""

from collections.abc import Callable
from threading import Lock
from types import TracebackType

import msgspec

from waypost.balance import Endpoint, Pool
from waypost.catalog.queries import select
from waypost.client.watched import Watched
from waypost.model import Instance, Query, Record, Revision, ServiceName, Source


class Service:
    """The instances of a service, as this process knows them now."""

    def __init__(
        self,
        watched: Watched,
        query: Query,
        policy: str,
        *,
        draw: Callable[[], float],
        clock_ns: Callable[[], int],
        timeout_s: float,
    ) -> None:
        """``query`` asks for ``any`` health: which of them may be picked is the pool's to say."""
        self._watched = watched
        self._query = query
        self._timeout_s = timeout_s
        self._records: tuple[Record, ...] = ()
        self._clock_ns = clock_ns
        self._lock = Lock()
        self.is_ready = False
        """Whether anything is known, and has come through to the pool."""
        self.policy = policy
        self.pool = Pool(policy, random=draw, clock=clock_ns, service=watched.service)
        watched.refreshes.append(self.refresh)
        self.refresh()

    @property
    def name(self) -> ServiceName:
        """Which service it is."""
        return self._watched.service

    async def ready(self) -> None:
        """Wait until the registry has answered, or what was last known has been found.

        Raises ``Unavailable`` if no registry can be reached and nothing is known from before.
        """
        if not self.is_ready:
            await self._watched.ready(self._timeout_s)
            self.refresh()

    @property
    def records(self) -> tuple[Record, ...]:
        """All that is registered and meets the conditions, drained and unhealthy ones too."""
        return self._records

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Those that may be picked now."""
        return tuple(endpoint.instance for endpoint in self.pool.endpoints)

    def pick(self) -> Instance:
        """Choose an instance by the policy; ``NoInstance`` says why there is none.

        Nothing is counted: for a policy that learns (``least_response_time``), use ``call``.
        """
        return self.pool.pick().instance

    def call(self) -> "Call":
        """Pick an instance for the body of an ``async with``, and learn from how that goes.

        The time that the body takes is the response time; an exception is a failure of the
        instance; a cancellation says nothing about it.
        """
        return Call(self)

    def choose(self) -> Endpoint:
        """Choose as ``pick`` does, for ``begin``."""
        return self.pool.pick()

    def begin(self, endpoint: Endpoint) -> "Begun":
        """Count a call of it, which must be ended."""
        with self._lock:
            self.pool.start(endpoint)
        return Begun(self, endpoint, self._clock_ns())

    def end(self, begun: "Begun", ok: bool | None) -> None:
        """Count the call as over, and learn from it; of an ``ok`` of None there is nothing to."""
        elapsed_ns = self._clock_ns() - begun.began_ns
        with self._lock:
            if ok is None:
                self.pool.abandon(begun.endpoint)
            else:
                self.pool.finish(begun.endpoint, elapsed_ns, ok)

    @property
    def revision(self) -> Revision:
        """The registry's revision that this is as of; 0 if it is not known."""
        return self._watched.view.revision

    @property
    def source(self) -> Source | None:
        """``follower`` while a watch keeps it current, ``cache`` or ``disk`` while the registry is
        away, None before anything is known."""
        return self._watched.view.source

    @property
    def as_of(self) -> float:
        """Unix time, in seconds, at which it was last known to be current."""
        return self._watched.current_at_ms() / 1000

    @property
    def age(self) -> float:
        """Seconds since it was last known to be current."""
        return self._watched.age_s

    def refresh(self) -> None:
        """Take what the view has become."""
        records = tuple(select(self._watched.view.records.values(), self._query))
        with self._lock:
            self._records = records
            self.pool.replace(records)
            self.is_ready = self._watched.view.source is not None


class Begun(msgspec.Struct, frozen=True, gc=False, eq=False):
    """A call under way."""

    service: Service
    endpoint: Endpoint
    began_ns: int


class Call:
    """One call of one instance, from pick to release, for ``async with``."""

    __slots__ = ("_begun", "_service")

    def __init__(self, service: Service) -> None:
        self._service = service
        self._begun: Begun | None = None

    async def __aenter__(self) -> Instance:
        await self._service.ready()
        self._begun = self._service.begin(self._service.choose())
        return self._begun.endpoint.instance

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._begun is not None
        self._service.end(self._begun, went_well(error))


def went_well(error: BaseException | None) -> bool | None:
    """Say what the end of a call says about the instance; None is nothing: its caller gave up."""
    if error is None:
        return True
    return False if isinstance(error, Exception) else None
