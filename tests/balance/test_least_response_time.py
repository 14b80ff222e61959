from collections import Counter
from itertools import cycle
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.balance.records import record

from waypost.balance import Pool


def every_pair(n: int) -> list[float]:
    """One draw for each ordered pair of distinct instances."""
    pairs = n * (n - 1)
    return [(k + 0.5) / pairs for k in range(pairs)]


def pool_of(n: int, draws: list[float]) -> Pool:
    pool = Pool("least_response_time", random=cycle(draws).__next__, clock=lambda: 0)
    pool.replace([record(f"i{i:02}") for i in range(n)])
    return pool


@given(
    seen=st.lists(
        st.tuples(st.integers(1, 10**10), st.integers(0, 50)),
        min_size=2,
        max_size=12,
        unique_by=lambda one: one[0] * (one[1] + 1),
    )
)
def test_the_worse_of_two_is_never_picked(seen: list[tuple[int, int]]) -> None:
    n = len(seen)
    pool = pool_of(n, every_pair(n))
    load: dict[str, int] = {}
    for endpoint, (elapsed_ns, in_flight) in zip(pool.endpoints, seen, strict=True):
        for _ in range(in_flight + 1):
            pool.start(endpoint)
        pool.finish(endpoint, elapsed_ns, True)
        load[endpoint.id] = elapsed_ns * (in_flight + 1)

    picks = Counter(pool.pick().id for _ in range(n * (n - 1)))

    # Of all pairs the best wins 2 (n - 1), the next 2 (n - 2), and the worst none.
    for better_than, instance in enumerate(sorted(load, key=load.__getitem__, reverse=True)):
        assert picks[instance] == 2 * better_than


@pytest.mark.parametrize("n", [2, 3, 10])
def test_ties_are_spread_evenly(n: int) -> None:
    pool = pool_of(n, every_pair(n))

    picks = Counter(pool.pick().id for _ in range(n * (n - 1)))

    assert picks == {endpoint.id: n - 1 for endpoint in pool.endpoints}


def test_a_single_one_is_picked() -> None:
    for draw in (0.0, 0.5, 1 - 2**-53):
        pool = pool_of(1, [draw])

        assert pool.pick().id == "i00"


def test_nobody_gets_more_than_twice_its_fair_share_however_fast_it_is() -> None:
    pool = Pool("least_response_time", random=Random(1).random, clock=lambda: 0)
    pool.replace([record(f"i{i:02}") for i in range(20)])
    for i, endpoint in enumerate(pool.endpoints):
        pool.start(endpoint)
        pool.finish(endpoint, 1 if i == 7 else 10**9, True)

    picks = Counter(pool.pick().id for _ in range(10_000))

    assert 950 < picks["i07"] < 1_050


def test_an_open_call_counts_as_much_as_the_time_it_takes() -> None:
    pool = pool_of(2, every_pair(2))
    a, b = pool.endpoints
    pool.start(a)
    pool.finish(a, 10_000_000, True)
    pool.start(b)
    pool.finish(b, 25_000_000, True)

    picked: list[str] = []
    for _ in range(4):
        endpoint = pool.pick()
        pool.start(endpoint)
        picked.append(endpoint.id)

    assert picked == ["i00", "i00", "i01", "i00"]


def test_a_retry_takes_the_better_of_two_untried() -> None:
    pool = pool_of(3, every_pair(2))
    for endpoint, elapsed_ns in zip(pool.endpoints, (1, 2, 3), strict=True):
        pool.start(endpoint)
        pool.finish(endpoint, elapsed_ns, True)

    retried = {pool.pick_except({"i00"}).id for _ in range(10)}

    assert retried == {"i01"}
