"""Consumers, each with a pool of its own, and the instances that they call, on virtual time.

Calls arrive at random (Poisson) at a random consumer.  An instance serves as many calls at once as
it has workers, the rest wait in the order they came; how long it works on one is exponentially
distributed.  A failing instance answers every call within ``FAILS_WITHIN_NS``, with a failure.

``python -m tests.balance.simulation`` prints the table that docs/balancing.md shows.
"""

from collections import Counter, deque
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random

import msgspec
from tests.balance.records import record

from waypost.balance import Endpoint, Pool

SECOND = 1_000_000_000
FAILS_WITHIN_NS = 1_000_000


class Call(msgspec.Struct):
    instance: str
    at_ns: int
    elapsed_ns: int
    ok: bool


class Instance:
    def __init__(self, *, work_ns: float = 50e6, workers: int = 4) -> None:
        self.work_ns = work_ns
        self.workers = workers
        self.is_failing = False
        self.failure_rate = 0.0
        self.waiting: deque[tuple[Pool, Endpoint, int]] = deque()


class World:
    """A service under load."""

    def __init__(
        self, policy: str, instances: dict[str, Instance], *, consumers: int, seed: int
    ) -> None:
        self.now_ns = 0
        self.instances = instances
        self.calls: list[Call] = []
        self._chance = Random(seed)
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._events_count = 0
        self._records = [record(name) for name in instances]
        self._pools = [
            Pool(policy, random=Random(f"{seed}.{i}").random, clock=lambda: self.now_ns)
            for i in range(consumers)
        ]
        for pool in self._pools:
            pool.replace(self._records)

    def join(self, name: str, instance: Instance) -> None:
        self.instances[name] = instance
        self._records.append(record(name))
        for pool in self._pools:
            pool.replace(self._records)

    def run(self, seconds: float, *, calls_per_s: float) -> None:
        """Go on for so long with so many calls."""
        end_ns = self.now_ns + int(seconds * SECOND)
        arrival_ns = self.now_ns
        while True:
            arrival_ns += 1 + int(self._chance.expovariate(calls_per_s) * SECOND)
            self._run_events(min(arrival_ns, end_ns))
            if arrival_ns >= end_ns:
                return
            self._call()

    def shares(self, since_s: float = 0) -> dict[str, float]:
        """What part of the calls that were answered since then went to each."""
        answered = Counter(c.instance for c in self.calls if c.at_ns >= since_s * SECOND)
        return {name: answered[name] / answered.total() for name in self.instances}

    def _run_events(self, until_ns: int) -> None:
        while self._events and self._events[0][0] <= until_ns:
            self.now_ns, _, happen = heappop(self._events)
            happen()
        self.now_ns = until_ns

    def _after(self, delay_ns: float, happen: Callable[[], None]) -> None:
        self._events_count += 1
        heappush(self._events, (self.now_ns + int(delay_ns), self._events_count, happen))

    def _call(self) -> None:
        pool = self._pools[int(self._chance.random() * len(self._pools))]
        endpoint = pool.pick()
        pool.start(endpoint)
        instance = self.instances[endpoint.id]
        began_ns = self.now_ns
        if instance.is_failing:
            self._after(FAILS_WITHIN_NS, lambda: self._end(pool, endpoint, began_ns, ok=False))
        elif instance.workers:
            self._serve(instance, pool, endpoint, began_ns)
        else:
            instance.waiting.append((pool, endpoint, began_ns))

    def _serve(self, instance: Instance, pool: Pool, endpoint: Endpoint, began_ns: int) -> None:
        instance.workers -= 1

        def served() -> None:
            instance.workers += 1
            ok = self._chance.random() >= instance.failure_rate
            self._end(pool, endpoint, began_ns, ok=ok)
            if instance.waiting:
                self._serve(instance, *instance.waiting.popleft())

        self._after(self._chance.expovariate(1 / instance.work_ns), served)

    def _end(self, pool: Pool, endpoint: Endpoint, began_ns: int, *, ok: bool) -> None:
        elapsed_ns = self.now_ns - began_ns
        pool.finish(endpoint, elapsed_ns, ok)
        self.calls.append(Call(endpoint.id, began_ns, elapsed_ns, ok))


def main() -> None:
    """Print p50, p99 and failures of three services under three policies: least to most of 5."""
    for service in ("all alike", "half of them three times as slow", "one fails within 1 ms"):
        for policy in ("random", "round_robin", "least_response_time"):
            p50s: list[float] = []
            p99s: list[float] = []
            failed: list[float] = []
            for seed in range(1, 6):
                world = World(
                    policy, {f"i{i:02}": Instance() for i in range(20)}, consumers=20, seed=seed
                )
                for i, instance in enumerate(world.instances.values()):
                    if service.startswith("half"):
                        instance.work_ns *= 1.5 if i % 2 else 0.5
                    instance.is_failing = service.startswith("one") and i == 0
                world.run(40, calls_per_s=0.7 * 20 * 4 / 0.050)
                calls = [call for call in world.calls if call.at_ns > 10 * SECOND]
                answers = sorted(call.elapsed_ns / 1e6 for call in calls if call.ok)
                p50s.append(answers[len(answers) // 2])
                p99s.append(answers[len(answers) * 99 // 100])
                failed.append(100 * (1 - len(answers) / len(calls)))
            print(
                f"{service:<33} {policy:<20} p50 {min(p50s):4.0f} to {max(p50s):4.0f} ms"
                f"  p99 {min(p99s):4.0f} to {max(p99s):4.0f} ms"
                f"  failed {min(failed):.2f} to {max(failed):.2f} %"
            )


if __name__ == "__main__":
    main()
