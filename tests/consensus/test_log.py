"""The log in memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.consensus.core import NO_BALLOT, NO_SNAP, Ballot, Entry, Snap
from waypost.consensus.entry import KIND_BATCH, KIND_SEAL, encode
from waypost.consensus.log import Log
from waypost.errors import ProtocolViolation


def entries_of(rounds: list[int], *, seal_at: int = 0) -> list[Entry]:
    """Entries in these rounds, chained from the first index on."""
    entries: list[Entry] = []
    chain = 0
    for index, round_ in enumerate(rounds, 1):
        kind = KIND_SEAL if index == seal_at else KIND_BATCH
        entries.append(encode(index, Ballot(1, round_, 1), kind, bytes([index]), chain))
        chain = entries[-1].chain
    return entries


def log_of(rounds: list[int], faulty: tuple[int, ...] = (), *, seal_at: int = 0) -> Log:
    return Log(1, NO_SNAP, entries_of(rounds, seal_at=seal_at), faulty)


def blank(entry: Entry) -> Entry:
    return Entry(entry.index, NO_BALLOT, 0, b"")


ROUNDS = st.lists(st.integers(1, 5), max_size=12).map(sorted)


@given(ROUNDS, ROUNDS)
def test_a_hint_never_skips_the_place_where_two_logs_meet(
    ours: list[int], theirs: list[int]
) -> None:
    log = log_of(ours)
    common = 0
    while common < min(len(ours), len(theirs)) and ours[common] == theirs[common]:
        common += 1

    for prev in range(common, len(theirs) + 1):
        ballot = Ballot(1, theirs[prev - 1], 1) if prev else NO_BALLOT
        hint = log.hint(prev, ballot)

        assert common <= hint <= min(prev, len(ours))


def test_entries_that_do_not_continue_the_log_are_refused_and_change_nothing() -> None:
    log = log_of([1, 1])
    stranger = encode(3, Ballot(1, 2, 1), KIND_BATCH, b"x", 12345)

    with pytest.raises(ProtocolViolation, match="does not follow"):
        log.put([stranger])

    assert log.last == 2


def test_a_seal_goes_with_its_truncation() -> None:
    log = log_of([1, 1, 1], seal_at=2)

    assert log.seal == 2
    log.truncate(2)
    assert log.seal == 0


def test_the_seal_of_a_snapshot_still_seals() -> None:
    log = Log(1, Snap(7, Ballot(1, 1, 1), KIND_SEAL, 1), (), ())

    assert log.seal == 7


def test_a_rotten_entry_is_put_back_only_if_it_is_proved_to_be_that_one() -> None:
    entries = entries_of([1, 1, 1])
    log = Log(1, NO_SNAP, [entries[0], blank(entries[1]), entries[2]], (2,))
    other = encode(2, Ballot(1, 1, 1), KIND_BATCH, b"another", entries[0].chain)

    assert not log.repair(other)
    assert not log.repair(entries[0])
    assert log.repair(entries[1])
    assert log.faulty == []
    assert not log.repair(entries[1])


def test_the_last_entry_without_its_header_is_proved_by_nothing() -> None:
    entries = entries_of([1, 1])
    log = Log(1, NO_SNAP, [entries[0], blank(entries[1])], (2,))

    assert not log.repair(entries[1])
    assert log.may_be(2, entries[1].chain)


def test_frames_come_as_many_as_fit_and_one_at_least() -> None:
    log = log_of([1, 1, 1])
    size = len(log.at(1).frame)

    assert len(log.frames(1, 1)[0]) == 1
    assert log.frames(1, 2 * size) == ((log.at(1).frame, log.at(2).frame), 2 * size)
    assert len(log.frames(2, 100 * size)[0]) == 2


def test_a_log_goes_on_behind_what_it_dropped() -> None:
    log = log_of([1, 2, 3], faulty=(1,))
    entries = entries_of([1, 2, 3, 3])

    log.drop(2)
    log.put([entries[3]])

    assert (log.base, log.base_ballot, log.last) == (2, Ballot(1, 2, 1), 4)
    assert log.faulty == []
    with pytest.raises(AssertionError, match="outside"):
        log.at(2)


def test_a_hint_skips_every_entry_of_a_later_term() -> None:
    log = log_of([1, 1, 3, 3, 3, 3])

    assert log.hint(6, Ballot(1, 2, 1)) == 2
    assert log.hint(6, Ballot(1, 3, 1)) == 6
