"""A write has its effect once, however often it comes; and what is kept for that is bounded."""

from bisect import insort

from hypothesis import given
from hypothesis import strategies as st
from tests.catalog.feed import check_invariants, instance

from waypost.catalog.origins import OUTCOMES_PER_CLIENT, WRITES_PER_CLIENT, Kept, Origins
from waypost.catalog.snapshots import digest, dump, load
from waypost.catalog.state import Catalog
from waypost.commands import (
    Command,
    Deregister,
    LogBatch,
    Origin,
    Outcome,
    Refused,
    Register,
    decode_batch,
    encode_batch,
    encode_part,
)

CLIENTS = ("c-1", "c-2", "c-3")


def takeover(number: int) -> list[Command]:
    """Make a write that has another effect each time that it is applied."""
    return [Deregister("orders", f"i-{number % 3}"), Register(instance(f"i-{number % 3}"))]


# A script of writes: client, the number that it gives, or None for one without an origin.
WRITES = st.tuples(st.sampled_from(CLIENTS), st.one_of(st.none(), st.integers(0, 60)))
ENTRIES = st.lists(st.lists(WRITES, max_size=6), max_size=40)


@given(ENTRIES, st.data())
def test_repeats_leave_the_state_and_the_outcomes_of_the_run_without_them(
    entries: list[list[tuple[str, int | None]]], data: st.DataObject
) -> None:
    with_repeats, without = Catalog(), Catalog()
    first: dict[tuple[str, int], tuple[int, list[Outcome]]] = {}
    numbers: dict[str, list[int]] = {client: [] for client in CLIENTS}
    dropped: dict[str, int] = dict.fromkeys(CLIENTS, -1)
    for index, entry in enumerate(entries, 1):
        parts = [takeover(index + place) for place in range(len(entry))]
        origins = [None if seq is None else Origin(client, seq) for client, seq in entry]
        once: list[int] = []
        for place, (client, seq) in enumerate(entry):
            if seq is None:
                once.append(place)
            elif (client, seq) not in first and seq > dropped[client]:
                once.append(place)
                first[client, seq] = (0, [])
                insort(numbers[client], seq)
                if len(numbers[client]) > WRITES_PER_CLIENT:
                    dropped[client] = numbers[client].pop(0)
        kept_before = {client: list(seqs) for client, seqs in numbers.items()}

        applied = with_repeats.apply(index, LogBatch(index, parts, origins))
        expected = without.apply(
            index, LogBatch(index, [parts[place] for place in once], [origins[p] for p in once])
        )

        assert applied.changed == expected.changed
        assert [applied.outcomes[place] for place in once] == expected.outcomes
        for place, outcomes in zip(once, expected.outcomes, strict=True):
            client, seq = entry[place]
            if seq is not None:
                first[client, seq] = (index, outcomes)
        for place, (client, seq) in enumerate(entry):
            if place in once:
                assert place not in applied.repeated
                continue
            assert seq is not None
            if seq in kept_before[client]:
                assert (applied.repeated[place], applied.outcomes[place]) == first[client, seq]
            elif place not in applied.repeated:
                assert {refused(each) for each in applied.outcomes[place]} == {"too-old"}
                assert len(applied.outcomes[place]) == len(parts[place])
        assert digest(with_repeats) == digest(without)
        if data.draw(st.integers(0, 9)) == 0:
            with_repeats = load(dump(with_repeats))
    check_invariants(with_repeats)


def refused(outcome: Outcome) -> str:
    assert isinstance(outcome, Refused)
    return outcome.code


def test_a_write_that_comes_twice_in_one_entry_is_applied_once() -> None:
    catalog = Catalog()
    part: list[Command] = [Register(instance())]
    origin = Origin("c-1", 4)

    applied = catalog.apply(1, LogBatch(1, [part, part], [origin, origin]))

    assert applied.outcomes == [[1], [1]]
    assert applied.repeated == {1: 1}
    assert len(applied.changed["orders"]) == 1


def test_a_write_that_was_refused_is_refused_again_though_it_might_succeed_now() -> None:
    catalog = Catalog()
    part: list[Command] = [Deregister("orders", "i-1")]
    refusal = catalog.apply(1, LogBatch(1, [part], [Origin("c-1", 1)])).outcomes
    catalog.apply(2, LogBatch(1, [[Register(instance())]]))

    again = catalog.apply(3, LogBatch(1, [part], [Origin("c-1", 1)]))

    assert again.outcomes == refusal
    assert again.repeated == {0: 1}
    assert catalog.instance_count == 1


def test_a_write_that_was_overtaken_by_later_ones_is_new() -> None:
    catalog = Catalog()
    for index, seq in enumerate((5, 9, 7), 1):
        applied = catalog.apply(index, LogBatch(1, [takeover(index)], [Origin("c-1", seq)]))
        assert not applied.repeated
    assert [[each.seq for each in window.writes] for window in catalog._origins] == [[5, 7, 9]]


def test_batches_without_origins_have_the_bytes_that_they_always_had() -> None:
    part = encode_part([Register(instance())])

    assert encode_batch(5, [part], [None]) == encode_batch(5, [part]) == b"\x92\x05\x91" + part
    assert decode_batch(b"\x92\x05\x91" + part).origins == []


def test_origins_are_read_back_as_they_were() -> None:
    parts = [encode_part([Register(instance())])] * 2

    batch = decode_batch(encode_batch(5, parts, [None, Origin("c-1", 2**32 - 1)]))

    assert batch.origins == [None, Origin("c-1", 2**32 - 1)]
    assert len(batch.parts) == 2


# Bounds


def test_the_clients_that_wrote_longest_ago_are_forgotten_first() -> None:
    origins = Origins(clients_max=100)
    for number in range(100):
        origins.keep(Origin(f"c-{number}", 1), 1, [1], copy=False)
    origins.keep(Origin("c-0", 2), 2, [1], copy=False)
    assert origins.find(Origin("c-1", 1)) == Kept(1, 1, [1])

    origins.keep(Origin("c-new", 1), 3, [1], copy=False)

    assert len(origins) == 100
    assert origins.find(Origin("c-1", 1)) is None
    assert [window.client for window in origins][-2:] == ["c-0", "c-new"]


def test_many_outcomes_of_one_client_cost_it_its_older_writes_and_nobody_else() -> None:
    origins = Origins()
    origins.keep(Origin("small", 1), 1, [1], copy=False)
    many: list[Outcome] = [1] * OUTCOMES_PER_CLIENT
    for seq in range(1, 4):
        origins.keep(Origin("big", seq), seq, many, copy=False)

    assert origins.find(Origin("small", 1)) == Kept(1, 1, [1])
    assert origins.find(Origin("big", 3)) == Kept(3, 3, many)
    too_old = origins.find(Origin("big", 2))
    assert too_old is not None
    assert too_old.index == 0


def test_the_outcomes_of_all_clients_together_are_bounded() -> None:
    origins = Origins(outcomes_max=1_000)
    for number in range(300):
        origins.keep(Origin(f"c-{number}", 1), 1, [1] * 10, copy=False)

    assert sum(len(kept.outcomes) for window in origins for kept in window.writes) <= 1_000
    assert len(origins) == 100
    assert origins.find(Origin("c-299", 1)) is not None


def test_a_window_that_is_being_written_is_replaced_and_not_changed() -> None:
    catalog = Catalog()
    catalog.apply(1, LogBatch(1, [takeover(1)], [Origin("c-1", 1)]))
    expected = b"".join(dump(catalog))

    walk = dump(catalog, chunk_bytes=1)
    for index in range(2, 40):
        catalog.apply(index, LogBatch(1, [takeover(index)], [Origin("c-1", index)]))

    assert b"".join(walk) == expected
    check_invariants(catalog)


def test_frames_of_windows_are_bounded_by_what_they_tell() -> None:
    catalog = Catalog()
    part: list[Command] = [Deregister("orders", "i-1")] * OUTCOMES_PER_CLIENT
    for index in range(1, 6):
        catalog.apply(index, LogBatch(1, [part], [Origin(f"c-{index}", 1)]))

    assert len(list(dump(catalog, chunk_bytes=1))) == 1 + 5
