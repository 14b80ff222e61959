import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sim.checkers.histories import has_an_order, op, random_history

from waypost.sim.checkers.history import Operation
from waypost.sim.checkers.models import Cell, Counter, Services
from waypost.sim.checkers.wgl import check_linearizable

A = ("a", "1", "passing")


def services(*history: Operation) -> str:
    return check_linearizable(Services(), history).outcome


def test_nothing_at_all_is_in_order() -> None:
    assert services() == "ok"


def test_a_read_may_see_a_write_that_is_still_open() -> None:
    assert (
        services(
            op("x", "register", "a", "1", at=(0, 100)),
            op("y", "resolve", result=(A,), at=(10, 20)),
        )
        == "ok"
    )


def test_no_read_may_unsee_what_an_earlier_one_saw() -> None:
    verdict = check_linearizable(
        Services(),
        [
            op("x", "register", "a", "1", at=(0, 100)),
            op("y", "resolve", result=(A,), at=(10, 20)),
            op("z", "resolve", result=(), at=(30, 40)),
        ],
    )

    assert verdict.outcome == "violation"
    assert verdict.culprits[0].client == "z"
    assert "resolve web" in verdict.why


def test_a_write_that_never_came_back_may_happen_late_or_never() -> None:
    lost = op("x", "register", "a", "1", at=(0, None))

    assert services(lost, op("y", "resolve", result=(), at=(10, 20))) == "ok"
    late = op("y", "resolve", result=(A,), at=(30, 40))
    assert services(lost, op("y", "resolve", result=(), at=(10, 20)), late) == "ok"


def test_it_cannot_happen_and_unhappen() -> None:
    assert (
        services(
            op("x", "register", "a", "1", at=(0, None)),
            op("y", "resolve", result=(A,), at=(10, 20)),
            op("y", "resolve", result=(), at=(30, 40)),
        )
        == "violation"
    )


def test_a_retry_that_counts_twice_is_found() -> None:
    assert (
        check_linearizable(
            Counter(),
            [
                op("x", "add", "1", result=1, at=(0, 10)),
                op("x", "add", "1", result=3, at=(20, 30)),
            ],
        ).outcome
        == "violation"
    )


def test_operations_of_different_services_do_not_touch_each_other() -> None:
    assert (
        services(
            op("x", "register", "a", "1", at=(0, 10)),
            op("y", "resolve", result=(), at=(20, 30), key="db"),
        )
        == "ok"
    )


def test_reads_that_may_be_stale_are_not_its_business() -> None:
    assert (
        services(
            op("x", "register", "a", "1", at=(0, 10)),
            op("y", "resolve", result=(), at=(20, 30), stale=None),
        )
        == "ok"
    )


def test_beyond_its_budget_it_is_undecided_and_never_ok() -> None:
    history = random_history(3, count=50, clients=5)

    verdict = check_linearizable(Services(), history, steps_max=10)

    assert verdict.outcome == "unknown"
    assert verdict.steps == 10


@given(st.integers(0, 10**9))
@settings(max_examples=60, deadline=None)
def test_a_history_made_from_an_order_has_one(seed: int) -> None:
    history = random_history(seed, count=120, clients=5, keys=2)

    assert services(*history) == "ok"


@given(st.integers(0, 10**9))
@settings(max_examples=30, deadline=None)
def test_it_still_has_one_when_some_never_came_back(seed: int) -> None:
    draw = random.Random(seed)
    history = [
        msgspec.structs.replace(each, back=None, result=None) if draw.random() < 0.05 else each
        for each in random_history(seed, count=60, clients=4)
    ]

    assert services(*history) == "ok"


@given(st.integers(0, 10**9), st.data())
@settings(max_examples=40, deadline=None)
def test_a_read_of_what_nobody_wrote_is_found(seed: int, data: st.DataObject) -> None:
    history = random_history(seed, count=60, clients=4)
    reads = [n for n, each in enumerate(history) if each.kind == "resolve"]
    if not reads:
        return
    at = data.draw(st.sampled_from(reads))
    history[at] = msgspec.structs.replace(history[at], result=(("z", "never", "passing"),))

    assert services(*history) == "violation"


def cell_histories() -> st.SearchStrategy[list[Operation]]:
    """Anything at all, right or wrong: a few operations on one cell with two values."""
    value = st.sampled_from("ab")
    times = st.tuples(st.integers(0, 12), st.integers(0, 8))

    def operation(raw: tuple[str, str, str, bool, tuple[int, int], bool]) -> Operation:
        kind, one, other, fits, (call, length), lost = raw
        back = None if lost else call + length
        match kind:
            case "read":
                return op("c", "read", result=one, at=(call, back))
            case "write":
                return op("c", "write", one, at=(call, back), result=None if lost else "ok")
            case _:
                return op("c", "cas", one, other, result="ok" if fits else "no", at=(call, back))

    raw = st.tuples(
        st.sampled_from(("read", "write", "cas")),
        value,
        value,
        st.booleans(),
        times,
        st.integers(0, 5).map(lambda n: n == 0),
    )
    return st.lists(raw.map(operation), max_size=6)


@given(cell_histories())
@settings(max_examples=400, deadline=None)
def test_it_says_what_trying_every_order_says(history: list[Operation]) -> None:
    history = [each for each in history if each.back is not None or each.kind != "read"]

    found = check_linearizable(Cell(), history).is_ok

    assert found == has_an_order(Cell(), history)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(3))
def test_a_thousand_operations_of_five_clients_are_far_within_its_budget(seed: int) -> None:
    verdict = check_linearizable(Services(), random_history(seed, count=1_000, clients=5))

    assert verdict.is_ok
    assert verdict.steps < 100_000
