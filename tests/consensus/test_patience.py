"""How long a silence is borne."""

from hypothesis import given
from hypothesis import strategies as st

from waypost.consensus.patience import BORNE, KEPT, LONGEST, Patience

T = 150


def test_nothing_is_borne_for_less_than_t() -> None:
    patience = Patience(T)

    patience.bore(1, 10)

    assert patience.limit == T


def test_a_silence_that_ended_is_borne_three_times_as_long() -> None:
    patience = Patience(T)

    patience.bore(100, 1_000)

    assert patience.limit == BORNE * 100


def test_an_outage_teaches_nothing() -> None:
    patience = Patience(T)

    patience.bore(LONGEST * T + 1, 1_000)

    assert patience.limit == T


def test_what_was_not_seen_again_is_forgotten() -> None:
    patience = Patience(T)
    patience.bore(100, 1_000)

    for moment in range(1_000, 1_000 + 3 * KEPT * T, 30):
        patience.bore(30, moment)

    assert patience.limit == T


@given(st.lists(st.tuples(st.integers(0, 10 * T), st.integers(0, 20 * T))))
def test_it_stays_between_t_and_the_longest_whatever_is_borne(
    heard: list[tuple[int, int]],
) -> None:
    patience, now = Patience(T), 0
    for silence, later in heard:
        now += later
        patience.bore(silence, now)

        assert T <= patience.limit <= LONGEST * T
        if silence <= LONGEST * T:
            assert patience.limit >= min(BORNE * silence, LONGEST * T)
