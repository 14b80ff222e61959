from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sim.checkers.histories import op, random_history

from waypost.sim.checkers.sessions import check_monotonic, check_once, check_staleness


def read(client: str, index: int, call: int, back: int, stale: int | None = None):
    return op(client, "resolve", result=(), at=(call, back), index=index, stale=stale)


def test_a_client_that_sees_later_and_later_states_is_content() -> None:
    assert check_monotonic([read("x", 1, 0, 10), read("x", 1, 20, 30), read("x", 5, 40, 50)]).is_ok


def test_a_client_that_goes_back_in_time_is_found() -> None:
    verdict = check_monotonic([read("x", 5, 0, 10), read("x", 4, 20, 30)])

    assert verdict.outcome == "violation"
    assert "went back" in verdict.why


def test_a_client_reads_what_it_wrote() -> None:
    write = op("x", "register", "a", "1", at=(0, 10), index=3)

    assert check_monotonic([write, read("x", 2, 11, 20)]).outcome == "violation"
    assert check_monotonic([write, read("y", 2, 11, 20)]).is_ok


def test_requests_that_a_client_has_open_at_once_promise_nothing_to_each_other() -> None:
    assert check_monotonic([read("x", 5, 0, 20), read("x", 4, 10, 30)]).is_ok


def test_a_read_within_its_bound_is_content() -> None:
    write = op("x", "register", "a", "1", at=(0, 100), index=3)
    old = read("y", 2, 150, 160, stale=50)

    assert check_staleness([write], [old]).is_ok


def test_a_read_beyond_its_bound_is_found() -> None:
    write = op("x", "register", "a", "1", at=(0, 100), index=3)
    old = read("y", 2, 151, 160, stale=50)

    verdict = check_staleness([write], [old])

    assert verdict.outcome == "violation"
    assert "too old" in verdict.why
    assert check_staleness([write], [old], slack=1).is_ok


def test_a_read_without_a_bound_may_be_as_old_as_it_likes() -> None:
    write = op("x", "register", "a", "1", at=(0, 100), index=3)

    assert check_staleness([write], [read("y", 0, 10**9, 10**9 + 1, stale=None)]).is_ok


def test_a_read_without_an_index_cannot_be_believed() -> None:
    assert check_staleness([], [op("x", "resolve", result=())]).outcome == "violation"


@given(st.integers(0, 10**9))
@settings(max_examples=30, deadline=None)
def test_a_history_made_from_an_order_breaks_no_promise(seed: int) -> None:
    history = random_history(seed, count=100, clients=4, keys=2)

    assert check_monotonic(history).is_ok
    assert check_staleness(history, [each for each in history if each.kind == "resolve"]).is_ok


def test_a_request_that_took_effect_once_is_content_however_often_it_is_told() -> None:
    assert check_once([("x", 1, 10), ("x", 2, 10), ("y", 1, 11), ("x", 1, 10)]).is_ok


def test_a_request_that_took_effect_twice_is_found() -> None:
    verdict = check_once([("x", 1, 10), ("x", 1, 12)])

    assert verdict.outcome == "violation"
    assert "10 and 12" in verdict.why
