"""The byte layout: what is written is read back, and no bytes are taken for more than they are."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.consensus import KIND_BATCH, KIND_SEAL, Ballot, Entry, Hard, Snap
from waypost.consensus.entry import NO_BALLOT, encode, pack
from waypost.storage.records import (
    BATCH_HEADER_BYTES,
    FILLER,
    KIND_HARD,
    KIND_HOLE,
    SECTOR,
    Frame,
    Gap,
    Hole,
    Record,
    Truncate,
    batch_at,
    body_at,
    encode_batch_header,
    encode_hard,
    encode_hole,
    encode_snapmark,
    encode_truncate,
    frames_crc,
    next_batch,
    sector_is_missing,
)

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
BALLOTS = st.builds(Ballot, U64, U64, U32)
HARDS = st.builds(Hard, BALLOTS, BALLOTS, U64, st.booleans())
SNAPS = st.builds(Snap, U64, BALLOTS, st.sampled_from([KIND_BATCH, KIND_SEAL]), U32)
ENTRIES = st.builds(
    encode, U64, BALLOTS, st.sampled_from([KIND_BATCH, KIND_SEAL]), st.binary(max_size=99), U32
)


def framed(record: Record) -> bytes:
    match record:
        case Entry():
            return record.frame
        case Hard():
            return encode_hard(record)
        case Snap():
            return encode_snapmark(record)
        case Truncate(start):
            return encode_truncate(start)
        case Hole(index):
            return encode_hole(index)


RECORDS = st.one_of(ENTRIES, HARDS, SNAPS, st.builds(Truncate, U64), st.builds(Hole, U64))


@given(st.lists(RECORDS, max_size=8))
def test_frames_are_read_back_in_order(records: list[Record]) -> None:
    data = b"".join(map(framed, records))

    parts = body_at(data, 0, len(data))

    assert all(isinstance(part, Frame) and part.is_sound for part in parts)
    assert [part.record for part in parts if isinstance(part, Frame)] == records


@given(st.lists(RECORDS, min_size=1, max_size=6), st.data())
def test_damage_costs_the_frame_it_hits_and_no_other(
    records: list[Record], data: st.DataObject
) -> None:
    whole = list(map(framed, records))
    victim = data.draw(st.integers(0, len(whole) - 1))
    frame = bytearray(whole[victim])
    bit = data.draw(st.integers(0, 48 * 8 - 1))
    frame[bit // 8] ^= 1 << bit % 8
    body = b"".join([*whole[:victim], bytes(frame), *whole[victim + 1 :]])

    parts = body_at(body, 0, len(body))

    sound = [part.record for part in parts if isinstance(part, Frame) and part.is_sound]
    assert sound == records[:victim] + records[victim + 1 :]


@given(st.binary(max_size=700), st.integers(-8, 800), st.integers(0, 800))
def test_no_bytes_make_a_parser_raise(data: bytes, start: int, end: int) -> None:
    batch_at(data, start, 1)
    next_batch(data, max(0, start), 1)
    body_at(data, max(0, start), end)
    sector_is_missing(data, max(0, start), end)


@given(RECORDS, st.binary(max_size=60), st.integers(0, 120))
def test_no_mutilated_frame_makes_the_parser_raise(
    record: Record, patch: bytes, offset: int
) -> None:
    data = bytearray(framed(record))
    data[offset : offset + len(patch)] = patch

    body_at(bytes(data), 0, len(data) + 64)


def test_a_rotten_entry_is_given_with_its_index_and_marked() -> None:
    frame = bytearray(encode(5, Ballot(1, 1, 1), KIND_BATCH, b"payload", 0).frame)
    frame[50] ^= 1

    (part,) = body_at(bytes(frame), 0, len(frame))

    assert isinstance(part, Frame)
    assert isinstance(part.record, Entry)
    assert part.record.index == 5
    assert not part.is_whole
    assert not part.is_sound


def test_rotten_promises_are_no_promises() -> None:
    frame = bytearray(encode_hard(Hard(Ballot(1, 2, 3), Ballot(1, 1, 3), 4, True)))
    frame[50] ^= 1

    (part,) = body_at(bytes(frame), 0, len(frame))

    assert isinstance(part, Frame)
    assert (part.header.kind, part.record) == (KIND_HARD, None)


def test_a_note_of_an_unknown_kind_is_not_sound() -> None:
    frame = pack(KIND_HOLE + 1, 1, NO_BALLOT)

    (part,) = body_at(frame, 0, len(frame))

    assert isinstance(part, Frame)
    assert not part.is_sound


def test_filler_ends_a_body_and_garbage_is_a_gap() -> None:
    frame = encode_truncate(3)

    assert len(body_at(frame + bytes(FILLER[:100]), 0, len(frame) + 100)) == 1
    gap = body_at(frame + b"\xa5" * 92 + b"garbage!", 0, len(frame) + 100)[1]
    assert gap == Gap(len(frame), len(frame) + 100)


def test_a_batch_header_holds_only_where_it_was_written_for() -> None:
    header = encode_batch_header(77, SECTOR, 100, 3, 0, 9, frames_crc([b"abcd"]), 2)
    data = bytes(SECTOR) + header + bytes(SECTOR)

    found = batch_at(data, SECTOR, 77)

    assert found is not None
    assert (found.frames, found.last, found.notes) == (3, 9, 2)
    assert found.body == SECTOR + BATCH_HEADER_BYTES
    assert found.end == 2 * SECTOR
    assert batch_at(data, SECTOR, 78) is None
    assert batch_at(header + data, 0, 77) is None
    assert next_batch(data, 0, 77) == found
    assert next_batch(data, SECTOR + 1, 77) is None


@given(st.integers(0, BATCH_HEADER_BYTES * 8 - 1))
def test_no_flipped_bit_in_a_batch_header_is_believed(bit: int) -> None:
    header = bytearray(encode_batch_header(77, 0, 100, 3, 0, 9, 1, 0))
    header[bit // 8] ^= 1 << bit % 8

    assert batch_at(bytes(header), 0, 77) is None


@pytest.mark.parametrize("cut", range(8, SECTOR, 8))
def test_a_sector_of_which_a_part_never_arrived_is_missing(cut: int) -> None:
    full = b"x" * SECTOR

    assert sector_is_missing(full[:cut] + bytes(SECTOR - cut), 0, SECTOR)
    assert sector_is_missing(bytes(cut) + full[cut:], 0, SECTOR)


def test_only_the_sectors_asked_about_count() -> None:
    data = b"x" * SECTOR + bytes(SECTOR) + b"x" * SECTOR

    assert not sector_is_missing(data, 0, SECTOR)
    assert sector_is_missing(data, 0, SECTOR + 1)
    assert not sector_is_missing(data, 2 * SECTOR + 5, 3 * SECTOR)
    assert sector_is_missing(data, 2 * SECTOR, 3 * SECTOR + 1)  # beyond the end of the file


def test_values_of_the_layout_are_frozen() -> None:
    for kind in (Truncate, Hole, Frame, Gap):
        assert msgspec.structs.fields(kind)
        assert kind.__struct_config__.frozen
