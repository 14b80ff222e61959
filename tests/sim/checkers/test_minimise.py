import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sim.checkers.histories import random_history

from waypost.sim.checkers.history import Operation
from waypost.sim.checkers.minimise import ddmin, minimise, until
from waypost.sim.checkers.models import Services
from waypost.sim.checkers.wgl import check_linearizable


@given(st.lists(st.integers(0, 9), max_size=30), st.sets(st.integers(0, 9), min_size=1, max_size=3))
def test_what_ddmin_leaves_fails_and_does_not_without_any_one(
    items: list[int], wanted: set[int]
) -> None:
    def fails(some: list[int]) -> bool:
        return wanted <= set(some)

    if not fails(items):
        return
    kept = ddmin(items, fails)

    assert fails(kept)
    assert not any(fails(kept[:n] + kept[n + 1 :]) for n in range(len(kept)))


def test_ddmin_stops_when_its_tries_are_used_up() -> None:
    tries: list[int] = []

    ddmin(list(range(100)), lambda some: bool(tries.append(len(some))) or 50 in some, tries=5)

    assert len(tries) == 5


def test_what_fails_without_anything_shrinks_to_nothing() -> None:
    assert ddmin([1, 2, 3], lambda _: True) == []


def broken(seed: int) -> list[Operation]:
    """One read in the middle of many operations saw a state of long before."""
    history = random_history(seed, count=200, clients=3, instances=4)
    reads = [n for n, each in enumerate(history) if each.kind == "resolve"]
    at = reads[len(reads) // 2]
    wrong = (("i1", "long-gone", "passing"),)
    history[at] = msgspec.structs.replace(history[at], result=wrong)
    return history


def fails(history: list[Operation]) -> bool:
    return check_linearizable(Services(), history).outcome == "violation"


@pytest.mark.parametrize("seed", range(5))
def test_a_failing_history_of_hundreds_shrinks_to_one_read_and_what_is_about_one_instance(
    seed: int,
) -> None:
    small = minimise(broken(seed), fails)

    assert fails(small)
    assert sum(each.kind == "resolve" for each in small) == 1
    assert len({each.args[0] for each in small if each.kind != "resolve"}) <= 1
    assert len(small) < 70


@pytest.mark.parametrize("seed", range(10))
def test_nothing_that_shrinking_does_makes_a_good_history_fail(seed: int) -> None:
    history = random_history(seed, count=80, clients=4, instances=4)
    with pytest.raises(AssertionError, match="does not fail"):
        minimise(history, fails)
    assert not any(fails(until(history, moment)) for moment in range(0, 500, 50))
    # The steps of minimise, told now and then that it still fails: each leaves it good.
    tried: list[list[Operation]] = []
    minimise(history, lambda some: bool(tried.append(list(some))) or len(tried) % 3 == 1)
    assert not any(fails(some) for some in tried)
