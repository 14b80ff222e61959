from collections.abc import Iterator
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from waypost.client.addresses import ADDRESSES_MAX, Address
from waypost.client.failover import BACKOFF_CAP_MS, LIVED_MS, Failover

A, B, C = (Address(name, 1) for name in "abc")


def almost_one() -> float:
    return 1 - 1e-9


def failed_round(failover: Failover, count: int) -> list[int]:
    """Fail ``count`` times and return what was waited before each attempt."""
    waits = []
    for _ in range(count):
        attempt = failover.next()
        waits.append(attempt.wait_ms)
        failover.failed(attempt.address, "connection refused")
    return waits


def tried(failover: Failover) -> Iterator[Address]:
    while True:
        attempt = failover.next()
        failover.failed(attempt.address, "connection refused")
        yield attempt.address


def test_a_round_tries_every_address_once_without_waiting() -> None:
    failover = Failover([A, B, C], Random(1).random)

    addresses = tried(failover)

    assert {next(addresses) for _ in range(3)} == {A, B, C}
    assert failover.has_tried_all


def test_only_after_a_whole_round_it_waits() -> None:
    failover = Failover([A, B], almost_one)

    assert failed_round(failover, 6) == [0, 0, 49, 0, 99, 0]


def test_the_wait_doubles_up_to_its_cap() -> None:
    failover = Failover([A], almost_one)

    waits = failed_round(failover, 40)

    assert waits[:8] == [0, 49, 99, 199, 399, 799, 1599, BACKOFF_CAP_MS - 1]
    assert set(waits[8:]) == {BACKOFF_CAP_MS - 1}


def test_who_has_a_short_lease_waits_no_longer_than_it_can_afford() -> None:
    failover = Failover([A], almost_one)
    failover.wait_ms_max = 300

    waits = failed_round(failover, 40)

    assert waits[:4] == [0, 49, 99, 199]
    assert set(waits[4:]) == {299}


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 60))
def test_no_wait_exceeds_its_cap_and_all_addresses_take_turns(
    seed: int, count: int, failures: int
) -> None:
    addresses = [Address(f"h{n}", 1) for n in range(count)]
    failover = Failover(addresses, Random(seed).random)

    seen = []
    for _ in range(failures):
        attempt = failover.next()
        assert 0 <= attempt.wait_ms <= BACKOFF_CAP_MS
        seen.append(attempt.address)
        failover.failed(attempt.address, "why")

    for start in range(len(seen) - count + 1):
        assert set(seen[start : start + count]) == set(addresses)


def test_clients_start_at_different_addresses() -> None:
    random = Random(7)

    firsts = [Failover([A, B, C], random.random).next().address for _ in range(300)]

    assert all(70 <= firsts.count(address) <= 130 for address in (A, B, C))


def test_after_a_connection_that_lived_the_next_try_is_made_at_once_and_elsewhere() -> None:
    failover = Failover([A, B], almost_one)
    failed_round(failover, 5)
    attempt = failover.next()

    failover.lost(attempt.address, "closed", LIVED_MS)

    assert failover.next().wait_ms == 0
    assert failover.next().address != attempt.address
    assert not failover.has_tried_all


def test_a_connection_that_is_lost_as_soon_as_it_stands_counts_as_a_failure() -> None:
    failover = Failover([A], almost_one)

    for _ in range(3):
        failover.lost(A, "closed", LIVED_MS - 1)

    assert failover.next().wait_ms == 199


def test_it_remembers_why_each_address_failed() -> None:
    failover = Failover([A], almost_one)

    failover.failed(A, "connection refused")

    assert failover.whys() == "a:1: connection refused"


def test_a_move_by_choice_makes_that_address_the_current_one() -> None:
    failover = Failover([A, B, C], almost_one)
    other = next(address for address in (A, B, C) if address != failover.next().address)

    failover.moved(other)

    assert failover.next().address == other
    assert failover.others[0] == other
    assert set(failover.others) == {A, B, C}


def test_what_is_learned_is_tried_too_and_what_was_given_stays() -> None:
    failover = Failover([A], almost_one)

    assert failover.learn([A, B, C]) == [B, C]
    assert failover.learn([A, B, C]) == []

    addresses = tried(failover)
    assert {next(addresses) for _ in range(3)} == {A, B, C}
    failover.learn([B])
    addresses = tried(failover)
    assert {next(addresses) for _ in range(3)} == {A, B, C}


def test_learning_changes_nothing_about_where_the_client_is() -> None:
    random = Random(3)
    failover = Failover([A, B], random.random)
    here = failover.next().address

    failover.learn([Address(f"h{n}", 1) for n in range(20)])

    assert failover.next().address == here


def test_who_learned_the_same_from_one_address_goes_on_at_different_ones() -> None:
    random = Random(7)
    nexts = []
    for _ in range(300):
        failover = Failover([A], random.random)
        failover.learn([A, B, C])
        failover.failed(A, "gone")
        nexts.append(failover.next().address)

    assert all(110 <= nexts.count(address) <= 190 for address in (B, C))


@given(st.integers(0, 2**32), st.lists(st.sets(st.integers(0, 99), max_size=30), max_size=20))
def test_however_much_is_learned_the_list_is_bounded_and_the_newest_members_are_in_it(
    seed: int, told: list[set[int]]
) -> None:
    failover = Failover([A, B], Random(seed).random)

    for numbers in told:
        here = failover.next().address
        members = [Address(f"h{n}", 1) for n in numbers]
        failover.learn(members)
        assert failover.next().address == here
        assert {A, B, here, *members} <= set(failover.others)
        assert len(failover.others) == len(set(failover.others)) <= ADDRESSES_MAX
