from random import Random

from hypothesis import given
from hypothesis import strategies as st
from tests.balance.records import record

from waypost.balance import Pool

IDS = [f"i{i:02}" for i in range(12)]
SETS = st.sets(st.sampled_from(IDS), min_size=1)


def pool_of(ids: set[str], seed: int = 0) -> Pool:
    pool = Pool("round_robin", random=Random(seed).random, clock=lambda: 0)
    pool.replace([record(i) for i in ids])
    return pool


@given(ids=SETS, seed=st.integers(0, 99), skipped=st.integers(0, 30))
def test_as_many_picks_as_instances_hold_each_once(ids: set[str], seed: int, skipped: int) -> None:
    pool = pool_of(ids, seed)
    for _ in range(skipped):
        pool.pick()

    picks = [pool.pick().id for _ in ids]

    assert sorted(picks) == sorted(ids)


@given(
    before=SETS,
    changes=st.lists(st.tuples(SETS, st.integers(0, 5)), max_size=6),
    seed=st.integers(),
)
def test_after_a_change_the_successor_of_the_last_pick_follows(
    before: set[str], changes: list[tuple[set[str], int]], seed: int
) -> None:
    pool = pool_of(before, seed)
    last = pool.pick().id

    for ids, picks in changes:
        pool.replace([record(i) for i in ids])
        for _ in range(picks):
            successor = min((i for i in ids if i > last), default=min(ids))
            last = pool.pick().id
            assert last == successor


@given(ids=st.sets(st.sampled_from(IDS), min_size=3), churned=st.sampled_from(IDS))
def test_one_that_comes_and_goes_takes_no_turn_from_the_others(ids: set[str], churned: str) -> None:
    stable = sorted(ids - {churned})
    pool = pool_of(ids)

    picks: list[str] = []
    for turn in range(4 * len(stable)):
        pool.replace([record(i) for i in (stable if turn % 2 else {*stable, churned})])
        picks.append(pool.pick().id)

    of_stable = [i for i in picks if i != churned]
    start = stable.index(of_stable[0])
    assert of_stable == [stable[(start + t) % len(stable)] for t in range(len(of_stable))]


def test_the_first_pick_is_left_to_chance() -> None:
    firsts = {pool_of(set(IDS), seed).pick().id for seed in range(200)}

    assert firsts == set(IDS)


def test_a_retry_does_not_turn_the_rotation() -> None:
    pool = pool_of(set(IDS))
    picks: list[str] = []
    for _ in IDS:
        picked = pool.pick()
        picks.append(picked.id)

        retried = pool.pick_except({picked.id})

        assert retried is not picked
    assert sorted(picks) == IDS
