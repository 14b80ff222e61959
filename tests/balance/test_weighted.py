from collections import Counter
from math import ceil, gcd
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.balance.records import record

from waypost.balance import Pool
from waypost.balance.weighted import SLOTS_MAX, lay_out, slots_of

SMALL = st.lists(st.integers(1, 30), min_size=1, max_size=30)
ANY = st.lists(st.floats(1e-3, 65_535), min_size=1, max_size=40)


def pool_of(weights: dict[str, float | None], seed: int = 0) -> Pool:
    pool = Pool("weighted", random=Random(seed).random, clock=lambda: 0)
    pool.replace([record(i, weight=weight) for i, weight in weights.items()])
    return pool


def named(weights: list[int]) -> dict[str, float | None]:
    return {f"i{i:02}": float(weight) for i, weight in enumerate(weights)}


@given(weights=SMALL, seed=st.integers(0, 99))
def test_a_period_holds_each_exactly_as_often_as_its_weight(weights: list[int], seed: int) -> None:
    pool = pool_of(named(weights), seed)
    common = gcd(*weights)
    period = sum(weights) // common

    picks = Counter(pool.pick().id for _ in range(period))

    assert picks == {i: int(weight or 0) // common for i, weight in named(weights).items()}


@given(shares=SMALL)
@example(shares=[100] + [1] * 100)
@example(shares=list(range(1, 60)))
def test_at_every_step_each_has_had_its_share_within_one(shares: list[int]) -> None:
    period = sum(shares)
    had = [0] * len(shares)

    for step, owner in enumerate(lay_out(shares), start=1):
        had[owner] += 1
        assert all(
            abs(count * period - step * share) < period
            for count, share in zip(had, shares, strict=True)
        )


@given(shares=SMALL)
@example(shares=[100] + [1] * 100)
@example(shares=[1, 9, 2])
def test_nobody_waits_longer_than_twice_its_mean_distance(shares: list[int]) -> None:
    order = lay_out(shares)
    period = len(order)

    for owner, share in enumerate(shares):
        turns = [step for step, o in enumerate(order) if o == owner]
        around = zip(turns, [*turns[1:], turns[0] + period], strict=True)
        assert max(later - turn for turn, later in around) <= ceil(2 * period / share)


def test_a_heavy_one_is_not_bunched() -> None:
    assert lay_out([5, 1, 1]) == [0, 0, 0, 1, 0, 0, 2]
    assert [lay_out([4, 1, 1, 1, 1])[step] == 0 for step in range(8)] == [True, False] * 4


def test_equal_weights_take_turns_in_the_order_of_their_ids() -> None:
    pool = pool_of({"c": 7, "a": 7, "b": 7})

    picks = "".join(pool.pick().id for _ in range(9))

    assert picks[:3] in ("abc", "bca", "cab")
    assert picks == picks[:3] * 3


@given(weights=ANY)
@example(weights=[1, 1, 16_383])
@example(weights=[1.1, 2.3, 9.7])
def test_rounded_shares_are_off_by_less_than_one_slot(weights: list[float]) -> None:
    slots = slots_of(weights)
    period = sum(slots)

    assert min(slots) >= 1
    raised = sum(weight * SLOTS_MAX < sum(weights) for weight in weights)
    for weight, count in zip(weights, slots, strict=True):
        assert abs(count - weight / sum(weights) * period) < 1.001 + raised


def test_the_lightest_has_several_slots_to_be_told_from_its_like() -> None:
    slots = slots_of([0.1, 0.13, 99.7])

    assert 8 <= slots[0] < slots[1]


@pytest.mark.parametrize("n", [1_000, 10_000, 40_000])
def test_every_positive_weight_has_a_slot_however_many_there_are(n: int) -> None:
    chance = Random(n)
    slots = slots_of([chance.uniform(0.001, 100) for _ in range(n)])

    assert min(slots) >= 1
    assert sum(slots) <= max(SLOTS_MAX, 2 * n) + n


def test_weights_count_however_many_there_are() -> None:
    assert slots_of([1, 3] * 20_000) == [1, 3] * 20_000
    assert set(slots_of([1.01, 2.97] * 20_000)) == {1, 3}


def test_fractions_of_a_power_of_two_are_exact() -> None:
    assert slots_of([0.5, 1.5, 0.25]) == [2, 6, 1]


def test_an_unknown_weight_counts_as_the_mean_of_the_known() -> None:
    assert slots_of([1, 5, None]) == [1, 5, 3]
    assert slots_of([1, 1, 2, None]) == [3, 3, 6, 4]
    assert slots_of([None, None]) == [1, 1]


def test_a_drained_weight_does_not_lower_the_mean() -> None:
    pool = pool_of({"a": 4, "b": 0, "c": None})

    picks = Counter(pool.pick().id for _ in range(100))

    assert picks == {"a": 50, "c": 50}


@settings(max_examples=15)
@given(weights=st.lists(st.integers(1, 9), min_size=2, max_size=6), seed=st.integers(0, 9))
def test_changes_faster_than_a_period_starve_nobody(weights: list[int], seed: int) -> None:
    pool = pool_of(named(weights), seed)
    picks: Counter[str] = Counter()

    turns = 1_000
    for turn in range(turns):
        changed = weights if turn % 2 else [weight * 10 + 1 for weight in weights]
        pool.replace([record(i, weight=weight) for i, weight in named(changed).items()])
        picks[pool.pick().id] += 1

    for i, weight in named(weights).items():
        share = (weight or 0) / sum(weights)
        assert abs(picks[i] / turns - share) < 0.1


def test_a_change_of_something_else_does_not_disturb_the_schedule() -> None:
    weights: dict[str, float | None] = {"a": 3, "b": 2, "c": 1}
    pool = pool_of(weights)

    picks: Counter[str] = Counter()
    for turn in range(6):
        why = f"checked {turn} times"
        pool.replace([record(i, weight=w, why=why) for i, w in weights.items()])
        picks[pool.pick().id] += 1

    assert picks == {"a": 3, "b": 2, "c": 1}


def test_a_retry_goes_by_weight_and_leaves_the_schedule_alone() -> None:
    pool = pool_of({"a": 6, "b": 3, "c": 1})
    first, retried = Counter[str](), Counter[str]()

    for _ in range(2_000):
        first[pool.pick().id] += 1
        retried[pool.pick_except({"a"}).id] += 1

    assert first == {"a": 1_200, "b": 600, "c": 200}
    assert retried.keys() == {"b", "c"}
    assert 1_420 < retried["b"] < 1_580
