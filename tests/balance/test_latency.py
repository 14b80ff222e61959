from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.balance.records import record

from waypost.balance import Endpoint
from waypost.balance.latency import PENALTY_NS, TAU_NS, Latency

MS = 1_000_000
SECOND = 1_000 * MS


class Clock:
    def __init__(self) -> None:
        self.now_ns = 77

    def __call__(self) -> int:
        return self.now_ns


class Bench:
    """Some endpoints under one ``Latency``, and a clock to turn."""

    def __init__(self, n: int) -> None:
        self.clock = Clock()
        self.latency = Latency(self.clock)
        self.endpoints = tuple(Endpoint(record(f"i{i:05}")) for i in range(n))
        self.latency.replace(self.endpoints)

    def after(self, ns: int) -> "Bench":
        self.clock.now_ns += ns
        return self

    def hear(self, which: int, elapsed_ns: int, *, ok: bool = True) -> None:
        self.latency.observe(self.endpoints[which], elapsed_ns, ok)

    def ratio(self, one: int, other: int) -> float:
        """How many times as expensive one is as the other, now."""
        return self.endpoints[one].cost / self.endpoints[other].cost


def test_the_first_sample_is_the_estimate() -> None:
    bench = Bench(1)

    bench.hear(0, 40 * MS)

    assert bench.endpoints[0].ewma_ns == 40 * MS


def test_a_slower_answer_counts_at_once() -> None:
    bench = Bench(1)
    bench.hear(0, 40 * MS)

    bench.after(MS).hear(0, 900 * MS)

    assert bench.endpoints[0].ewma_ns == 900 * MS


def test_a_faster_answer_is_averaged_in_by_the_time_that_passed() -> None:
    bench = Bench(1)
    bench.hear(0, 900 * MS)

    bench.after(3 * SECOND).hear(0, 40 * MS)

    faded = exp(-0.3)
    assert bench.endpoints[0].ewma_ns == pytest.approx(900 * MS * faded + 40 * MS * (1 - faded))


@given(
    st.lists(
        st.tuples(st.integers(0, 5 * SECOND), st.integers(1, 10 * SECOND), st.booleans()),
        min_size=1,
    )
)
def test_forward_decay_equals_decay_on_reading(
    samples: list[tuple[int, int, bool]],
) -> None:
    bench = Bench(1)
    estimate, had_failed = 0.0, False

    for n, (pause_ns, elapsed_ns, ok) in enumerate(samples):
        bench.after(pause_ns).hear(0, elapsed_ns, ok=ok)
        sample = elapsed_ns if ok else max(elapsed_ns, PENALTY_NS)
        weight = 1 - exp(-pause_ns / TAU_NS)
        estimate *= 1 - weight
        if n == 0 or (sample > estimate and (ok or had_failed)):
            estimate = sample
        else:
            estimate += weight * sample
        had_failed = not ok

        assert bench.endpoints[0].ewma_ns == pytest.approx(estimate, rel=1e-6)


def test_a_single_failure_is_averaged_in_and_a_second_one_counts_at_once() -> None:
    bench = Bench(1)
    bench.hear(0, 40 * MS)

    bench.after(10 * MS).hear(0, MS, ok=False)
    assert bench.endpoints[0].ewma_ns == pytest.approx(45 * MS, rel=0.01)

    bench.after(10 * MS).hear(0, MS, ok=False)
    assert bench.endpoints[0].ewma_ns == PENALTY_NS


def test_failures_apart_from_each_other_never_count_at_once() -> None:
    bench = Bench(1)
    for call in range(10_000):
        bench.after(10 * MS).hear(0, 40 * MS, ok=call % 1_000 != 999)

        assert bench.endpoints[0].ewma_ns < 50 * MS


def test_a_failure_that_took_longer_than_the_penalty_counts_as_long_as_it_took() -> None:
    bench = Bench(1)

    bench.hear(0, 30 * SECOND, ok=False)

    assert bench.endpoints[0].ewma_ns == 30 * SECOND


def test_a_slow_one_is_cheaper_than_the_others_again_once_it_has_faded() -> None:
    bench = Bench(2)
    bench.hear(0, 2 * SECOND)
    bench.hear(1, 100 * MS)

    cheaper_after_s = 0
    while bench.ratio(0, 1) > 1:
        bench.after(SECOND).hear(1, 100 * MS)
        cheaper_after_s += 1

    assert cheaper_after_s == 30  # 10 s * ln(20), rounded up


def test_a_newcomer_is_taken_to_be_the_median_of_those_that_are_known() -> None:
    bench = Bench(4)
    for which, elapsed_ms in enumerate((10, 40, 2_000)):
        bench.hear(which, elapsed_ms * MS)

    newcomer = Endpoint(record("new"))
    bench.latency.replace((*bench.endpoints[:3], newcomer))

    assert newcomer.cost == bench.endpoints[1].cost
    assert newcomer.ewma_ns == 0


def test_the_guess_follows_as_a_new_pool_gets_to_know_itself() -> None:
    bench = Bench(9)
    unknown = bench.endpoints[8]
    # A first answer that is far off must not stay the measure of all others.
    bench.hear(0, 500 * MS)
    guesses = [unknown.cost / bench.endpoints[0].cost]

    for which in range(1, 8):
        bench.hear(which, 10 * MS)
        guesses.append(unknown.cost / bench.endpoints[0].cost)

    assert guesses[0] == 1
    assert guesses[1:] == pytest.approx([10 / 500] * 7)


def test_a_pool_whose_instances_were_all_exchanged_gets_to_know_itself_anew() -> None:
    bench = Bench(5)
    for which in range(5):
        bench.hear(which, 10 * MS)
    bench.endpoints = tuple(Endpoint(record(f"new-{i}")) for i in range(3))
    bench.latency.replace(bench.endpoints)

    bench.hear(0, 20 * MS)

    assert bench.ratio(1, 0) == bench.ratio(2, 0) == 1


def test_an_answer_faster_than_the_clock_can_tell_costs_something() -> None:
    bench = Bench(1)

    bench.hear(0, 0)

    assert bench.endpoints[0].cost > 0


def test_the_first_sample_replaces_the_guess_even_if_it_is_better() -> None:
    bench = Bench(2)
    bench.hear(0, 900 * MS)

    bench.after(MS).hear(1, 10 * MS)

    assert bench.endpoints[1].ewma_ns == 10 * MS


def test_what_comes_back_into_the_pool_is_judged_anew() -> None:
    bench = Bench(3)
    for which in range(3):
        bench.hear(which, (which + 1) * 100 * MS)
    bench.latency.replace(bench.endpoints[:2])
    for _ in range(600):
        bench.after(SECOND).hear(0, 100 * MS)
        bench.hear(1, 100 * MS)

    bench.latency.replace(bench.endpoints)

    assert bench.ratio(2, 0) == 1


def test_a_night_without_calls_makes_nobody_faster() -> None:
    bench = Bench(2)
    bench.hear(0, 2 * SECOND)
    bench.hear(1, 100 * MS)

    bench.after(12 * 3_600 * SECOND).hear(1, 100 * MS)

    assert bench.ratio(0, 1) == pytest.approx(20 * exp(-1))


@pytest.mark.parametrize("hours", [1, 5, 24])
def test_costs_stay_finite_and_positive_for_as_long_as_it_runs(hours: int) -> None:
    bench = Bench(3)
    bench.hear(2, 50 * MS)

    for _ in range(hours * 3_600 // 5):
        bench.after(5 * SECOND).hear(0, 50 * MS)
        bench.hear(1, 100 * MS)

    assert bench.ratio(1, 0) == pytest.approx(2)
    assert 0 < bench.endpoints[2].cost < bench.endpoints[0].cost < 1e200
    assert bench.endpoints[0].ewma_ns == pytest.approx(50 * MS)


def test_moving_the_origin_changes_no_comparison() -> None:
    bench = Bench(2)
    for _ in range(299):
        bench.after(TAU_NS).hear(0, 50 * MS)
    bench.hear(1, 70 * MS)
    before = bench.ratio(1, 0)

    bench.after(TAU_NS).hear(0, 50 * MS)
    bench.after(TAU_NS).hear(0, 50 * MS)

    assert before == pytest.approx(1.4)
    assert bench.ratio(1, 0) == pytest.approx(1.4 * exp(-2))
