import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sim.checkers.histories import op, random_history

from waypost.sim.checkers.history import Operation
from waypost.sim.checkers.models import Services
from waypost.sim.checkers.witness import UNPLACED_MAX, check_witness

A = ("a", "1", "passing")
B = ("b", "1", "passing")


def witness(*history: Operation) -> str:
    return check_witness(Services(), history).outcome


def test_nothing_at_all_is_in_order() -> None:
    assert witness() == "ok"


def test_a_read_sees_what_the_log_had_at_its_index() -> None:
    assert (
        witness(
            op("x", "register", "a", "1", at=(0, 10), index=1),
            op("y", "resolve", result=(A,), at=(5, 15), index=1),
            op("z", "resolve", result=(), at=(5, 15), index=0),
        )
        == "ok"
    )


def test_a_read_of_what_the_log_does_not_have_is_a_violation() -> None:
    verdict = check_witness(
        Services(),
        [
            op("x", "register", "a", "1", at=(0, 10), index=1),
            op("y", "resolve", result=(), at=(5, 15), index=1),
        ],
    )

    assert verdict.outcome == "violation"
    assert "resolve web" in verdict.why
    assert [each.client for each in verdict.culprits] == ["x", "y"]


def test_a_linearizable_read_that_misses_what_was_acknowledged_before_it_is_a_violation() -> None:
    assert (
        witness(
            op("x", "register", "a", "1", at=(0, 10), index=1),
            op("y", "resolve", result=(), at=(11, 15), index=0),
        )
        == "violation"
    )


def test_a_read_that_may_be_stale_may_miss_it() -> None:
    assert (
        witness(
            op("x", "register", "a", "1", at=(0, 10), index=1),
            op("y", "resolve", result=(), at=(11, 15), index=0, stale=None),
        )
        == "ok"
    )


def test_a_stale_read_must_have_been_true_once() -> None:
    assert (
        witness(
            op("x", "register", "a", "1", at=(0, 10), index=1),
            op("y", "resolve", result=(B,), at=(11, 15), index=0, stale=None),
        )
        == "violation"
    )


def test_two_writes_cannot_stand_at_one_place() -> None:
    assert (
        witness(
            op("x", "register", "a", "1", at=(0, 10), index=1, place=0),
            op("y", "register", "b", "1", at=(0, 10), index=1, place=0),
        )
        == "violation"
    )


def test_a_write_that_came_back_without_an_index_is_a_violation() -> None:
    assert witness(op("x", "register", "a", "1", index=None)) == "violation"


def test_a_write_that_never_came_back_and_that_the_log_does_not_have_is_left_out() -> None:
    assert (
        witness(
            op("x", "register", "a", "1", at=(0, None), index=None),
            op("y", "resolve", result=(), at=(11, 15), index=0),
        )
        == "ok"
    )


def test_a_write_that_never_came_back_counts_where_the_log_has_it() -> None:
    assert (
        witness(
            op("x", "register", "a", "1", at=(0, None), index=1),
            op("y", "resolve", result=(A,), at=(11, 15), index=1),
        )
        == "ok"
    )


def test_writes_of_one_batch_are_put_in_the_order_that_their_answers_ask_for() -> None:
    batch = (
        op("x", "deregister", "a", at=(0, 10), index=1),
        op("y", "register", "a", "1", at=(1, 10), index=1),
        op("z", "register", "b", "1", at=(2, 10), index=1),
    )

    assert witness(*batch, op("r", "resolve", result=(B,), at=(11, 15), index=1)) == "ok"
    assert witness(*batch, op("r", "resolve", result=(A, B), at=(11, 15), index=1)) == "violation"


def test_a_batch_that_no_order_explains_is_a_violation() -> None:
    assert (
        witness(
            op("x", "deregister", "a", at=(0, 10), index=1),
            op("y", "health", "a", "critical", at=(1, 10), index=1),
        )
        == "violation"
    )


def test_too_many_writes_without_a_place_are_undecided_and_never_ok() -> None:
    batch = [
        op(f"c{n}", "register", f"i{n}", "1", at=(0, 10), index=1) for n in range(UNPLACED_MAX + 1)
    ]

    assert check_witness(Services(), batch).outcome == "unknown"


@given(st.integers(0, 10**9), st.integers(1, 12), st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_a_history_made_from_an_order_passes(seed: int, clients: int, keys: int) -> None:
    history = random_history(seed, count=100, clients=clients, keys=keys)

    assert check_witness(Services(), history).is_ok


@given(st.integers(0, 10**9), st.data())
@settings(max_examples=50, deadline=None)
def test_it_fails_as_soon_as_one_read_is_not_what_it_was(seed: int, data: st.DataObject) -> None:
    history = random_history(seed, count=60, clients=5)
    reads = [n for n, each in enumerate(history) if each.kind == "resolve"]
    if not reads:
        return
    at = data.draw(st.sampled_from(reads))
    seen = history[at].result
    assert isinstance(seen, tuple)
    wrong = seen[1:] if seen else (A,)
    history[at] = msgspec.structs.replace(history[at], result=wrong)

    assert check_witness(Services(), history).outcome == "violation"


@pytest.mark.parametrize("seed", range(20))
def test_it_fails_when_two_acknowledged_writes_in_sequence_swap_their_places(seed: int) -> None:
    history = random_history(seed, count=60, clients=1, reads=0)
    one, other = history[20], history[30]
    history[20] = msgspec.structs.replace(one, index=other.index)
    history[30] = msgspec.structs.replace(other, index=one.index)

    assert check_witness(Services(), history).outcome == "violation"


def test_twenty_thousand_operations_take_a_fraction_of_a_second() -> None:
    history = random_history(1, count=20_000, clients=30, keys=20, instances=10)
    begun = time.process_time()

    assert check_witness(Services(), history).is_ok
    assert time.process_time() - begun < 2.0
