from collections import Counter
from random import Random

import pytest
from tests.balance.records import record

from waypost.balance import Pool

CHI_SQUARE_19 = 43.8  # exceeded by chance once in a thousand, at 19 degrees of freedom
CHI_SQUARE_24 = 51.2


def pool_of(n: int, seed: int) -> Pool:
    pool = Pool("random", random=Random(seed).random, clock=lambda: 0)
    pool.replace([record(f"i{i:02}") for i in range(n)])
    return pool


def chi_square(counts: Counter[object], cells: int) -> float:
    expected = counts.total() / cells
    # Cells that were never hit are not in the counter.
    missed = (cells - len(counts)) * expected
    return missed + sum((seen - expected) ** 2 / expected for seen in counts.values())


@pytest.mark.parametrize("seed", range(5))
def test_each_instance_is_as_likely_as_every_other(seed: int) -> None:
    pool = pool_of(20, seed)

    picks: Counter[object] = Counter(pool.pick().id for _ in range(20_000))

    assert chi_square(picks, 20) < CHI_SQUARE_19


@pytest.mark.parametrize("seed", range(5))
def test_a_pick_says_nothing_about_the_next(seed: int) -> None:
    pool = pool_of(5, seed)

    pairs: Counter[object] = Counter((pool.pick().id, pool.pick().id) for _ in range(20_000))

    assert chi_square(pairs, 25) < CHI_SQUARE_24


@pytest.mark.parametrize("seed", range(5))
def test_a_retry_is_as_likely_to_go_to_any_that_was_not_tried(seed: int) -> None:
    pool = pool_of(21, seed)

    picks: Counter[object] = Counter(pool.pick_except({"i03"}).id for _ in range(20_000))

    assert "i03" not in picks
    assert chi_square(picks, 20) < CHI_SQUARE_19


def test_weights_are_ignored_but_for_zero() -> None:
    pool = Pool("random", random=Random(1).random, clock=lambda: 0)
    pool.replace([record("a", weight=1), record("b", weight=9), record("c", weight=0)])

    picks = Counter(pool.pick().id for _ in range(10_000))

    assert picks.keys() == {"a", "b"}
    assert 4_800 < picks["a"] < 5_200


def test_chance_just_below_one_picks_the_last() -> None:
    for n in (1, 2, 3, 1_000):
        pool = Pool("random", random=lambda: 1 - 2**-53, clock=lambda: 0)
        pool.replace([record(f"i{i:04}") for i in range(n)])

        assert pool.pick() is pool.endpoints[-1]
