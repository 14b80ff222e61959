from hypothesis import given
from hypothesis import strategies as st

from waypost.client.retry import (
    MOVE_AFTER_MS,
    SETBACK_MS_BASE,
    SETBACK_MS_CAP,
    TOKENS_MAX,
    RetryBudget,
    Setbacks,
    wait_before_retry_ms,
)
from waypost.errors import Overloaded, ReadOnly, Unavailable


def test_a_client_that_only_fails_adds_little_more_than_a_fifth_to_the_load() -> None:
    budget = RetryBudget(0)
    sent = retried = 0

    for ms in range(0, 10_000, 1):  # a request each millisecond, each of which fails
        sent += 1
        budget.earn(ms)
        retried += budget.spend(ms)

    assert retried <= 0.2 * sent + TOKENS_MAX + 3 * 10 + 1


def test_a_client_that_asks_seldom_gets_its_retries() -> None:
    budget = RetryBudget(0)

    for ms in range(0, 100_000, 1000):
        budget.earn(ms)
        assert budget.spend(ms)
        assert budget.spend(ms)
        assert budget.spend(ms)


def test_an_empty_budget_fills_again_with_time() -> None:
    budget = RetryBudget(0)
    while budget.spend(0):
        pass

    assert not budget.spend(100)
    assert budget.spend(1000)


def test_a_clock_that_stands_still_or_steps_back_earns_nothing() -> None:
    budget = RetryBudget(10_000)
    while budget.spend(10_000):
        pass

    assert not budget.spend(9_000)
    assert not budget.spend(10_000)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2000))))
def test_the_budget_is_never_overdrawn(steps: list[tuple[bool, int]]) -> None:
    budget = RetryBudget(0)
    now = spent = earned = 0

    for is_request, passed in steps:
        now += passed
        if is_request:
            earned += 1
            budget.earn(now)
        else:
            spent += budget.spend(now)

    assert spent <= TOKENS_MAX + 0.2 * earned + 3 * now / 1000 + 1e-6


def test_the_first_retry_is_made_at_once_and_the_next_ones_after_jitter() -> None:
    error = Unavailable("gone")

    assert wait_before_retry_ms(error, 1, 0.99) == 0
    assert 0 <= wait_before_retry_ms(error, 2, 0.0) <= wait_before_retry_ms(error, 2, 0.99) < 100
    assert wait_before_retry_ms(error, 50, 0.99) <= 200


def test_a_registry_that_sheds_load_is_asked_again_when_it_said_and_not_before() -> None:
    error = Overloaded("too much", retry_after=0.5)

    assert wait_before_retry_ms(error, 1, 0.0) == 500
    assert 500 <= wait_before_retry_ms(error, 1, 0.99) <= 625


NO_LEADER = Unavailable("no leader")


def test_each_failure_in_a_row_is_waited_for_longer_up_to_a_cap_and_at_random() -> None:
    longest, shortest = Setbacks(lambda: 1 - 1e-9), Setbacks(lambda: 0.0)

    waits = [longest.met(NO_LEADER, 0) for _ in range(12)]

    assert waits[:4] == [74, 124, 224, 424]
    assert max(waits) < SETBACK_MS_BASE + SETBACK_MS_CAP
    assert {shortest.met(NO_LEADER, 0) for _ in range(12)} == {SETBACK_MS_BASE}


def test_a_success_is_the_end_of_all_that() -> None:
    setbacks = Setbacks(lambda: 1 - 1e-9)
    for _ in range(9):
        setbacks.met(NO_LEADER, 0)

    setbacks.ended()

    assert (setbacks.count, setbacks.error) == (0, None)
    assert setbacks.met(NO_LEADER, 10_000) == 74
    assert not setbacks.should_move


def test_a_node_is_left_only_when_it_fails_for_longer_than_an_election_takes() -> None:
    setbacks = Setbacks(lambda: 0.5)

    moves = []
    for now_ms in range(0, 5 * MOVE_AFTER_MS + 1, 100):
        setbacks.met(NO_LEADER, now_ms)
        if setbacks.should_move:
            moves.append(now_ms)

    assert moves == [n * MOVE_AFTER_MS for n in range(1, 6)]


def test_a_node_that_sheds_load_or_cannot_write_is_not_left() -> None:
    """Another one would have to take the session over, and the load with it."""
    for error in (Overloaded("too many", retry_after=0.5), ReadOnly("disk full")):
        setbacks = Setbacks(lambda: 0.0)
        for now_ms in (0, 10_000):
            setbacks.met(error, now_ms)
            assert not setbacks.should_move
    assert setbacks.count == 2


def test_who_sheds_load_says_how_long_to_wait() -> None:
    setbacks = Setbacks(lambda: 0.0)

    assert setbacks.met(Overloaded("too many", retry_after=3.0), 0) == 3000
