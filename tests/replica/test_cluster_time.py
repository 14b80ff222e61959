"""Cluster time goes on from the log, by this leader's own clock."""

from hypothesis import given
from hypothesis import strategies as st

from waypost.replica.cluster_time import ClusterTime

MS = 1_000_000


def test_it_continues_from_the_highest_stamp_whatever_the_local_clock_says() -> None:
    time = ClusterTime(highest_applied_ms=5_000, now_ns=99 * MS)

    assert time.stamp(99 * MS) == 5_000
    assert time.stamp(149 * MS) == 5_050


@given(st.lists(st.integers(0, 10**15)))
def test_it_never_runs_backwards(clock: list[int]) -> None:
    time = ClusterTime(1_000, 0)

    stamps = [time.stamp(now) for now in clock]

    assert stamps == sorted(stamps)
    assert all(stamp >= 1_000 for stamp in stamps)
