"""The entry frame: what is written is read back, and nothing else is ever believed."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.consensus.entry import (
    HEADER_BYTES,
    KIND_BATCH,
    LOCAL_KINDS,
    NO_BALLOT,
    PAYLOAD_BYTES_MAX,
    Ballot,
    Entry,
    encode,
    header_at,
    pack,
    parse,
    payload_is_whole,
)
from waypost.errors import CorruptData, Invalid

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
BALLOTS = st.builds(Ballot, U64, U64, U32)
ENTRIES = st.builds(
    encode, U64, BALLOTS, st.integers(0, LOCAL_KINDS - 1), st.binary(max_size=300), U32
)
BALLOT = Ballot(1, 2, 3)


def tuple_of(ballot: Ballot) -> tuple[int, int, int]:
    return (ballot.epoch, ballot.round, ballot.node)


@given(U64, BALLOTS, st.integers(0, LOCAL_KINDS - 1), st.binary(max_size=300), U32)
def test_what_was_encoded_is_read_back(
    index: int, ballot: Ballot, kind: int, payload: bytes, prev: int
) -> None:
    entry = encode(index, ballot, kind, payload, prev)

    assert parse(entry.frame) == entry == Entry(index, ballot, kind, entry.frame)
    assert bytes(entry.payload) == payload
    assert len(entry.frame) % 8 == 0
    header = header_at(entry.frame)
    assert header is not None
    assert (header.prev, header.length, header.crc) == (prev, len(payload), entry.chain)


def test_the_layout_is_the_documented_one() -> None:
    payload = b"hello"

    frame = encode(7, Ballot(5, 6, 4), 1, payload, 0xDEADBEEF).frame

    fields = (5, 1, 0, 0, 7, 5, 6, 4, 0xDEADBEEF)
    tail = struct.pack("<IIBBHQQQII", zlib.crc32(payload + bytes(3)), *fields)
    assert frame == struct.pack("<I", zlib.crc32(tail)) + tail + payload + bytes(3)


@given(ENTRIES, st.data())
def test_no_single_flipped_bit_is_believed(entry: Entry, data: st.DataObject) -> None:
    bit = data.draw(st.integers(0, len(entry.frame) * 8 - 1))
    frame = bytearray(entry.frame)
    frame[bit // 8] ^= 1 << bit % 8

    with pytest.raises(CorruptData):
        parse(bytes(frame))


@given(st.binary(max_size=200) | st.builds(lambda e, b: e.frame[:60] + b, ENTRIES, st.binary()))
def test_bytes_are_an_entry_or_corrupt_data_and_never_anything_else(data: bytes) -> None:
    try:
        entry = parse(data)
    except CorruptData:
        return
    assert entry.frame == data


@given(ENTRIES, st.integers(1, 400))
def test_a_frame_cut_short_is_corrupt_data(entry: Entry, cut: int) -> None:
    with pytest.raises(CorruptData):
        parse(entry.frame[:-cut])


def test_a_rotten_payload_still_says_which_entry_it_was() -> None:
    frame = bytearray(encode(9, BALLOT, KIND_BATCH, b"payload", 1).frame)
    frame[HEADER_BYTES] ^= 1

    header = header_at(bytes(frame))

    assert header is not None
    assert (header.index, header.ballot) == (9, BALLOT)
    assert not payload_is_whole(header, bytes(frame))


def test_equal_header_checksums_mean_equal_logs_up_to_there() -> None:
    def log(*payloads: bytes) -> int:
        chain = 0
        for index, payload in enumerate(payloads, 1):
            chain = encode(index, BALLOT, KIND_BATCH, payload, chain).chain
        return chain

    assert log(b"a", b"b", b"c") == log(b"a", b"b", b"c")
    assert log(b"a", b"b", b"c") != log(b"x", b"b", b"c")


def test_a_nodes_own_notes_are_no_log_entries() -> None:
    with pytest.raises(CorruptData, match="is not a log entry"):
        parse(pack(LOCAL_KINDS, 1, NO_BALLOT))


def test_a_payload_beyond_the_limit_is_refused_with_the_limit() -> None:
    with pytest.raises(Invalid, match=str(PAYLOAD_BYTES_MAX)):
        encode(1, BALLOT, KIND_BATCH, bytes(PAYLOAD_BYTES_MAX + 1), 0)


def test_the_payload_is_a_view_and_no_copy() -> None:
    entry = encode(1, BALLOT, KIND_BATCH, bytes(1000), 0)

    assert entry.payload.obj is entry.frame


def test_ballots_are_ordered_by_epoch_then_round_then_node() -> None:
    mixed = [Ballot(2, 1, 1), Ballot(1, 1, 2), Ballot(1, 2, 1), Ballot(1, 1, 1)]

    assert [tuple_of(ballot) for ballot in sorted(mixed)] == sorted(map(tuple_of, mixed))


def test_what_is_reserved_is_zero_until_a_newer_version_says_otherwise() -> None:
    frame = bytearray(encode(1, BALLOT, KIND_BATCH, b"", 0).frame)
    frame[14] = 1
    frame[:4] = zlib.crc32(frame[4:48]).to_bytes(4, "little")

    assert header_at(bytes(frame)) is None
    with pytest.raises(CorruptData):
        parse(bytes(frame))
