"""What choosing an instance costs: a pick, a whole call's bookkeeping, and a change of the set.

    python benchmarks/micro_pick.py [--json]

Prints a table on a terminal, and JSON when piped or asked for it.  Each figure is the best of
many short repeats, since whatever else runs on the machine can only make a repeat slower.  The yard
is a fixed piece of plain Python, measured in turn with the rest: to compare machines, or moments
of a busy one, compare in yards.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from itertools import cycle, repeat
from random import Random

import msgspec

from waypost.balance import POLICIES, Pool
from waypost.model import Instance, Record

SIZES = (10, 1_000, 10_000)
REPEATS = 60
TIMES = 2_000


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    policy: str
    instances: int
    pick_ns: float
    call_ns: float
    """Of pick, start and finish together."""
    replace_ms: float
    """Of a change of one weight, with everything that follows from it."""
    yard_ns: float
    """Of the yard, measured at the same time."""


def records(n: int) -> list[Record]:
    chance = Random(n)
    return [
        Record(
            instance=Instance(
                service="orders", id=f"orders-{i}", host="10.0.0.1", port=8080,
                weight=float(chance.randint(1, 10)), incarnation=1,
            ),
            health="passing", since_ms=0, why="", suspect=False, session="", revision=1,
        )
        for i in range(n)
    ]  # fmt: skip


def with_weight(record: Record, weight: float) -> Record:
    instance = msgspec.structs.replace(record.instance, weight=weight)
    return msgspec.structs.replace(record, instance=instance)


def busy_pool(policy: str, n: int) -> Pool:
    """A pool as it is under load: estimates differ, and some calls are open."""
    chance = Random(1)
    pool = Pool(policy, random=chance.random, clock=time.perf_counter_ns)
    pool.replace(records(n))
    for endpoint in pool.endpoints:
        pool.start(endpoint)
        pool.finish(endpoint, chance.randint(10_000_000, 100_000_000), True)
        if chance.random() < 0.3:
            pool.start(endpoint)
    return pool


def ns_each(run: Callable[[], object], times: int) -> float:
    """Nanoseconds for each of so many runs, the loop around them included."""
    began = time.perf_counter_ns()
    for _ in repeat(None, times):
        run()
    return (time.perf_counter_ns() - began) / times


class Yard:
    """A fixed piece of plain Python: a method call, attributes, integer and float arithmetic."""

    __slots__ = ("at", "step")

    def __init__(self) -> None:
        self.at = 1
        self.step = 1.5

    def run(self) -> float:
        self.at = at = self.at % 1_000 + 1
        return self.step * (at + 1) + self.step * (at // 3 - 1)


def best(*runs: Callable[[], object], repeats: int = REPEATS, times: int = TIMES) -> list[float]:
    """Nanoseconds of each: the best of its repeats, which take turns."""
    rounds = [[ns_each(run, times) for run in runs] for _ in range(repeats)]
    return [min(figures) for figures in zip(*rounds, strict=True)]


def measure(policy: str, n: int) -> Figure:
    pool = busy_pool(policy, n)

    def call() -> None:
        endpoint = pool.pick()
        pool.start(endpoint)
        pool.finish(endpoint, 50_000_000, True)

    pick_ns, call_ns, yard_ns = best(pool.pick, call, Yard().run)
    one, *others = records(n)
    variants = [[with_weight(one, weight), *others] for weight in (1.0, 2.0)]
    turns = cycle(variants)
    (replace_ns,) = best(lambda: pool.replace(next(turns)), repeats=6, times=2)
    return Figure(
        policy=policy,
        instances=n,
        pick_ns=round(pick_ns, 1),
        call_ns=round(call_ns, 1),
        replace_ms=round(replace_ns / 1e6, 3),
        yard_ns=round(yard_ns, 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What choosing an instance costs.")
    parser.add_argument("--json", action="store_true", help="print JSON, also on a terminal")
    as_json = parser.parse_args().json or not sys.stdout.isatty()
    figures = [measure(policy, n) for policy in POLICIES for n in SIZES]
    python = f"{platform.python_implementation()} {platform.python_version()}"
    if as_json:
        rows = [msgspec.to_builtins(figure) for figure in figures]
        print(json.dumps({"python": python, "figures": rows}, indent=2))
        return
    print(f"{python}, {platform.machine()}\n")
    print(f"{'policy':<20} {'instances':>9} {'pick':>9} {'call':>9} {'replace':>11} {'yard':>9}")
    for f in figures:
        print(
            f"{f.policy:<20} {f.instances:>9,} {f.pick_ns:>6.0f} ns {f.call_ns:>6.0f} ns "
            f"{f.replace_ms:>8.2f} ms {f.yard_ns:>6.0f} ns"
        )


if __name__ == "__main__":
    main()
