"""The instances of one service that a consumer may pick from, and the picking.

``replace`` is told what the registry knows, and decides who may be picked: it leaves out who is
drained, unhealthy or suspect, so that ``pick`` has nothing to decide but which.  Each call that is
made is bracketed by ``start`` and one of ``finish`` and ``abandon``.

Owned by one event loop or one thread.  What holds beyond that, for CPython with its global lock:
``pick`` may run in any thread while another one runs ``replace``, and sees the instances from
before or from after it.  ``start``, ``finish`` and ``abandon`` read, change and write, so several
threads need a lock around them and around ``replace``, or a pool each.  Not shared across a fork:
the child's copy would walk in step with its parent's, and wait for calls that are the parent's.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import NoReturn

from waypost.balance.endpoint import Endpoint
from waypost.balance.latency import Latency
from waypost.balance.least_response_time import LeastResponseTime
from waypost.balance.policy import Chance, Policy
from waypost.balance.random import Random
from waypost.balance.refusal import why_none
from waypost.balance.round_robin import RoundRobin
from waypost.balance.weighted import Weighted
from waypost.errors import Invalid, NoInstance
from waypost.model import InstanceId, Record, ServiceName, resolvable

POLICIES: Mapping[str, Callable[[Chance], Policy]] = {
    "least_response_time": LeastResponseTime,
    "random": Random,
    "round_robin": RoundRobin,
    "weighted": Weighted,
}
DEFAULT_POLICY = "least_response_time"

SCANNED_MAX = 64
SAMPLE_SIZE = 16
"""A retry looks at every instance of a pool up to ``SCANNED_MAX``, and at so many of a larger."""


class Pool:
    """Picks one of the instances of a service.

    Invariant: ``endpoints`` are in the order of their ids, and an instance is represented by the
    same ``Endpoint`` for as long as it is registered in the same incarnation.
    """

    __slots__ = (
        "_known",
        "_latency",
        "_pick",
        "_policy",
        "_random",
        "_service",
        "_why_none",
        "endpoints",
    )

    _pick: Callable[[], Endpoint]

    def __init__(
        self,
        policy: str,
        *,
        random: Chance,
        clock: Callable[[], int],
        service: ServiceName = "this service",
    ) -> None:
        """Start without any instance.

        ``clock`` is monotonic and counts nanoseconds; ``service`` is how messages call it.
        """
        if policy not in POLICIES:
            raise Invalid(
                f"policy: {policy!r} is not a load-balancing policy: use one of "
                + ", ".join(POLICIES),
                field="policy",
            )
        self._policy = POLICIES[policy](random)
        self._random = random
        self._service = service
        self._latency = Latency(clock)
        self._known: dict[InstanceId, Endpoint] = {}
        self.endpoints: tuple[Endpoint, ...] = ()
        """Those that may be picked."""
        self._pick = self._refuse
        self._why_none = why_none(service, ())

    def replace(self, records: Iterable[Record]) -> None:
        """Pick from these from now on: all that the registry knows of the service."""
        records = sorted(records, key=lambda record: record.instance.id)
        known = {record.instance.id: self._endpoint_of(record) for record in records}
        assert len(known) == len(records), "two records of the same instance"
        self._known = known
        self.endpoints = tuple(known[record.instance.id] for record in resolvable(records))
        self._latency.replace(self.endpoints)
        if self.endpoints:
            self._policy.replace(self.endpoints)
            self._pick = self._policy.pick
        else:
            self._why_none = why_none(self._service, records)
            self._pick = self._refuse

    def pick(self) -> Endpoint:
        """The instance for a new call; ``NoInstance`` if there is none."""
        return self._pick()

    def pick_except(self, tried: Container[InstanceId]) -> Endpoint:
        """An instance for a repeated call: none of those, or ``NoInstance`` if no other is left."""
        untried = [e for e in self._some() if e.id not in tried] or [
            e for e in self.endpoints if e.id not in tried
        ]
        if untried:
            return self._policy.choose(untried)
        if not self.endpoints:
            self._refuse()
        raise NoInstance(
            f"each of the {len(self.endpoints)} instances of {self._service} that may be picked "
            "has been tried in this call: report its last failure, or call again later"
        )

    def start(self, endpoint: Endpoint) -> None:
        """Count a call as open."""
        endpoint.in_flight += 1

    def finish(self, endpoint: Endpoint, elapsed_ns: int, ok: bool) -> None:
        """Count it as over, and learn how long it took and whether the instance failed it."""
        self.abandon(endpoint)
        self._latency.observe(endpoint, elapsed_ns, ok)

    def abandon(self, endpoint: Endpoint) -> None:
        """Count it as over, and learn nothing: its caller cancelled it."""
        endpoint.in_flight -= 1
        assert endpoint.in_flight >= 0, "a call was finished twice, or never started"

    def _some(self) -> Sequence[Endpoint]:
        """Enough of the endpoints to choose from for a retry: all, unless there are many."""
        endpoints = self.endpoints
        n = len(endpoints)
        if n <= SCANNED_MAX:
            return endpoints
        return [endpoints[int(self._random() * n)] for _ in range(SAMPLE_SIZE)]

    def _endpoint_of(self, record: Record) -> Endpoint:
        endpoint = self._known.get(record.instance.id)
        if endpoint is None or endpoint.instance.incarnation != record.instance.incarnation:
            return Endpoint(record)
        endpoint.record = record
        return endpoint

    def _refuse(self) -> NoReturn:
        raise NoInstance(self._why_none)
