from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.catalog.eviction import WINDOW_MS, Bucket, draw


@pytest.mark.parametrize(
    ("instances", "granted"), [(1, 1), (5, 5), (6, 5), (16, 5), (17, 6), (20, 6), (1000, 300)]
)
def test_a_full_bucket_holds_thirty_percent_rounded_up_and_five_at_least(
    instances: int, granted: int
) -> None:
    assert draw(None, instances, instances, 0)[0] == granted


def test_nothing_wanted_leaves_the_bucket_as_it_is() -> None:
    assert draw(None, 10, 0, 7) == (0, None)
    bucket = Bucket(5, 12, 0)
    assert draw(bucket, 10, 0, 7) == (0, bucket)


def test_an_empty_bucket_grants_one_as_soon_as_one_has_run_in() -> None:
    granted, bucket = draw(None, 1_000, 1_000, 0)
    assert granted == 300

    assert draw(bucket, 700, 700, 99)[0] == 0
    assert draw(bucket, 700, 700, 100)[0] == 1
    assert draw(bucket, 700, 700, 15_000)[0] == 150


def test_an_empty_bucket_is_full_after_thirty_seconds_and_measures_the_service_anew() -> None:
    _, bucket = draw(None, 1_000, 300, 0)

    assert draw(bucket, 100, 100, WINDOW_MS - 1)[0] == 100
    assert draw(bucket, 100, 100, WINDOW_MS)[0] == 30


def test_a_service_that_shrinks_keeps_its_rate() -> None:
    now_ms, left = 0, 1_000
    granted, bucket = draw(None, left, left, now_ms)
    left -= granted
    while left:
        now_ms += 1_000
        granted, bucket = draw(bucket, left, left, now_ms)
        assert granted == 10
        left -= granted
    assert now_ms == 70_000


def test_a_service_that_grows_is_not_held_to_its_former_rate() -> None:
    _, bucket = draw(None, 10, 5, 0)

    assert draw(bucket, 10_000, 10_000, 1_000)[0] == 100


@given(
    st.lists(
        st.tuples(st.integers(0, 40_000), st.integers(0, 200), st.integers(0, 200)), max_size=30
    )
)
def test_no_thirty_seconds_see_more_than_two_buckets_and_waiting_always_helps(
    steps: list[tuple[int, int, int]],
) -> None:
    now_ms = 0
    bucket: Bucket | None = None
    grants: list[tuple[int, int]] = []
    largest = 5
    for later_ms, more, wanted in steps:
        now_ms += later_ms
        instances = wanted + more
        largest = max(largest, -(-instances * 3 // 10))
        granted, bucket = draw(bucket, instances, wanted, now_ms)
        assert 0 <= granted <= wanted
        if bucket is not None:
            assert 0 <= bucket.level < bucket.capacity * WINDOW_MS
        grants.append((now_ms, granted))
        # Whatever happened, thirty seconds later a whole share may go.
        assert draw(bucket, 100, 100, now_ms + WINDOW_MS)[0] >= 30
    for start_ms, _ in grants:
        within = sum(g for at_ms, g in grants if start_ms <= at_ms <= start_ms + WINDOW_MS)
        assert within <= 2 * largest


@given(st.integers(1, 500), st.lists(st.integers(1, 5_000), max_size=40))
def test_a_bucket_never_loses_a_part_of_an_eviction_to_rounding(
    instances: int, waits: list[int]
) -> None:
    granted, bucket = draw(None, instances, instances, 0)
    capacity = granted if instances > 5 else max(5, -(-instances * 3 // 10))
    level = Fraction(capacity - granted)
    now_ms, left = 0, instances - granted
    for wait_ms in waits:
        now_ms += wait_ms
        level += Fraction(capacity * wait_ms, 30_000)
        if level >= capacity:
            break
        granted, bucket = draw(bucket, instances, left, now_ms)
        assert granted == min(left, int(level))
        level -= granted
        left -= granted
