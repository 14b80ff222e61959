"""A segment says whose it is, from whichever of its two copies is whole."""

import zlib

from hypothesis import given
from hypothesis import strategies as st

from waypost.consensus import KIND_BATCH, KIND_SEAL, Ballot, Hard, Snap
from waypost.storage.heads import SegmentHead, decode_head, encode_head, head_version
from waypost.storage.records import BODY_START, SECTOR

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
BALLOTS = st.builds(Ballot, U64, U64, U32)
HARDS = st.builds(Hard, BALLOTS, BALLOTS, U64, st.booleans())
SNAPS = st.builds(Snap, U64, BALLOTS, st.sampled_from([KIND_BATCH, KIND_SEAL]), U32)
HEADS = st.builds(SegmentHead, U64, U32, U64, U64, U64, U32, HARDS, SNAPS, U64, U64, U64)

HEAD = SegmentHead(
    cluster=1,
    node=2,
    number=3,
    segment=4,
    first=5,
    chain=6,
    hard=Hard(Ballot(1, 2, 3), Ballot(1, 1, 3), 4, True),
    snap=Snap(3, Ballot(1, 1, 1), KIND_SEAL, 77),
    previous=8,
    previous_end=9,
    durable_end=10,
)


@given(HEADS)
def test_a_segment_head_is_read_back_from_either_copy(head: SegmentHead) -> None:
    data = encode_head(head)

    assert len(data) == BODY_START
    assert decode_head(data) == head
    assert decode_head(bytes(SECTOR) + data[SECTOR:]) == head
    assert decode_head(data[:SECTOR] + bytes(SECTOR)) == head
    assert decode_head(bytes(BODY_START)) is None


@given(st.integers(0, SECTOR * 8 - 1))
def test_no_flipped_bit_in_a_segment_head_is_believed(bit: int) -> None:
    copy = bytearray(encode_head(HEAD)[:SECTOR])
    copy[bit // 8] ^= 1 << bit % 8

    assert decode_head(bytes(copy) * 2) is None
    assert decode_head(bytes(copy) + encode_head(HEAD)[SECTOR:]) == HEAD


def test_a_newer_format_is_named_and_not_read() -> None:
    data = bytearray(encode_head(HEAD))
    for start in (0, SECTOR):
        data[start + 8] = 3
        crc = zlib.crc32(data[start : start + SECTOR - 4])
        data[start + SECTOR - 4 : start + SECTOR] = crc.to_bytes(4, "little")

    assert head_version(bytes(data)) == 3
    assert decode_head(bytes(data)) is None


@given(st.binary(max_size=2 * BODY_START))
def test_no_bytes_make_the_reader_of_heads_raise(data: bytes) -> None:
    decode_head(data)
    head_version(data)
