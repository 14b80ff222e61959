"""Majorities, and how far they have come."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from waypost.consensus.quorum import majority, reached


@given(st.integers(1, 9))
def test_any_two_majorities_have_a_member_in_common(members: int) -> None:
    size = majority(members)

    for one in combinations(range(members), size):
        for other in combinations(range(members), size):
            assert set(one) & set(other)
    assert 2 * (size - 1) <= members, "and none is larger than it must be"


@given(st.lists(st.integers(0, 20), min_size=1, max_size=7))
def test_what_a_quorum_reached_is_reached_by_so_many_and_no_more_is(values: list[int]) -> None:
    quorum = majority(len(values))

    found = reached(values, quorum)

    assert sum(value >= found for value in values) >= quorum
    assert sum(value > found for value in values) < quorum
