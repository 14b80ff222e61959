from hypothesis import given
from hypothesis import strategies as st

from waypost.client.retry import TOKENS_MAX, RetryBudget, wait_before_retry_ms
from waypost.errors import Overloaded, Unavailable


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
