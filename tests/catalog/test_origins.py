"""A write has its effect once, however often it comes; and what is kept for that is bounded."""

from bisect import insort

from hypothesis import given
from hypothesis import strategies as st
from tests.catalog.feed import check_invariants, instance

from waypost.catalog.origins import WRITES_PER_CLIENT, Origins
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
    for index, entry in enumerate(entries, 1):
        parts = [takeover(index + place) for place in range(len(entry))]
        origins = [None if seq is None else Origin(client, seq) for client, seq in entry]
        once: list[int] = []
        for place, (client, seq) in enumerate(entry):
            if seq is None:
                once.append(place)
            elif (client, seq) not in first and (
                len(numbers[client]) < WRITES_PER_CLIENT or seq > numbers[client][0]
            ):
                once.append(place)
                first[client, seq] = (0, [])
                insort(numbers[client], seq)
                del numbers[client][:-WRITES_PER_CLIENT]
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
                told = (applied.repeated.get(place, index), applied.outcomes[place])
                assert told == first[client, seq]
            elif place not in applied.repeated and first.get((client, seq), (0,))[0] != index:
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
    assert not applied.repeated, "it is of this revision"
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
    ((_, window),) = catalog._origins.windows()
    assert list(window)[::3] == [5, 7, 9]


def test_batches_without_origins_have_the_bytes_that_they_always_had() -> None:
    part = encode_part([Register(instance())])

    assert encode_batch(5, [part]) == b"\x92\x05\x91" + part
    assert decode_batch(b"\x92\x05\x91" + part).origins == []


def test_origins_are_read_back_as_they_were() -> None:
    parts = [encode_part([Register(instance())])] * 2

    batch = decode_batch(encode_batch(5, parts, [None, Origin("c-1", 2**32 - 1)]))

    assert batch.origins == [None, Origin("c-1", 2**32 - 1)]
    assert len(batch.parts) == 2


# Bounds


def write(
    origins: Origins, client: str, seq: int, index: int, count: int = 1
) -> tuple[int, list[Outcome]] | None:
    """Let a write come; tell what is kept of it if it is not new."""
    part: list[Command] = [Deregister("orders", "i-1")] * count
    batch = LogBatch(1, [part], [Origin(client, seq)])
    ((outcomes,), repeated) = origins.apply(index, batch, lambda part: [index] * len(part))
    return None if outcomes == [index] * count else (repeated.get(0, 0), outcomes)


def test_the_clients_that_wrote_longest_ago_are_forgotten_first() -> None:
    origins = Origins(clients_max=100)
    for number in range(100):
        assert write(origins, f"c-{number}", 1, 1) is None
    assert write(origins, "c-0", 2, 2) is None
    assert write(origins, "c-1", 1, 2) == (1, [1])

    assert write(origins, "c-new", 1, 3) is None

    assert [client for client, _ in origins.windows()][-2:] == ["c-0", "c-new"]
    assert len(origins) == 100
    assert write(origins, "c-1", 1, 4) is None, "it was forgotten, and is new"


def test_the_outcomes_of_writes_with_several_commands_are_bounded() -> None:
    origins = Origins(bulk_max=1_000)
    write(origins, "small", 1, 1)
    for number in range(1, 300):
        assert write(origins, "c-1", number, number, 10) is None
        assert write(origins, "c-2", number, number, 2) is None

    kept = [outcomes for _, outcomes in origins.bulk()]
    assert 900 < sum(len(outcomes) + 8 for outcomes in kept) <= 1_000
    assert write(origins, "small", 1, 900) == (1, [1])
    assert write(origins, "c-1", 299, 900, 10) == (299, [299] * 10)
    assert write(origins, "c-1", 280, 900, 10) is not None


def test_a_write_whose_outcomes_were_dropped_is_too_old_and_not_new() -> None:
    origins = Origins(bulk_max=100)
    write(origins, "c-1", 1, 1, 50)
    write(origins, "c-2", 1, 2, 50)

    told = write(origins, "c-1", 1, 3, 50)

    assert told is not None
    assert [refused(outcome) for outcome in told[1]] == ["too-old"] * 50


def test_a_client_that_was_forgotten_may_give_the_same_numbers_again() -> None:
    origins = Origins(clients_max=1)
    for index in range(1, 6):
        assert write(origins, f"c-{index % 2}", 7, index, 3) is None

    assert [key for key, _ in origins.bulk()] == [("c-0", 7), ("c-1", 7)]
    assert origins._bulk_count == 2 * (3 + 8)


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
    part: list[Command] = [Deregister("orders", "i-1")] * 4_096
    for index in range(1, 6):
        catalog.apply(index, LogBatch(1, [part], [Origin(f"c-{index}", 1)]))

    assert len(list(dump(catalog, chunk_bytes=1))) == 1 + 1 + 5
