"""Frames survive any chunking, and nothing but frames gets through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.errors import ProtocolViolation
from waypost.transport.frames import FrameReader, encode_frame

frames = st.lists(
    st.tuples(st.integers(0, 255), st.integers(0, 2**32 - 1), st.binary(max_size=200)), max_size=20
)


@given(frames, st.lists(st.integers(1, 50), min_size=1))
def test_frames_come_out_as_they_went_in_whatever_the_chunks(
    sent: list[tuple[int, int, bytes]], sizes: list[int]
) -> None:
    stream = b"".join(encode_frame(*frame) for frame in sent)
    reader = FrameReader(1 << 20)

    received = []
    at = turn = 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        received += reader.feed(stream[at : at + size])
        at += size
        turn += 1

    assert received == sent
    assert not reader.has_partial_frame


def test_a_frame_over_the_limit_is_refused_before_its_body_arrives() -> None:
    reader = FrameReader(100)

    with pytest.raises(ProtocolViolation, match="outside 5 to 100"):
        reader.feed(encode_frame(1, 1, bytes(200))[:9])


def test_a_length_too_short_to_be_a_frame_is_refused() -> None:
    with pytest.raises(ProtocolViolation, match="outside"):
        FrameReader(100).feed(b"\x00\x00\x00\x04" + bytes(20))


@given(st.lists(st.binary(max_size=64), max_size=50))
def test_no_input_raises_anything_but_a_protocol_violation(chunks: list[bytes]) -> None:
    reader = FrameReader(1000)
    try:
        for chunk in chunks:
            reader.feed(chunk)
    except ProtocolViolation:
        pass


def test_a_large_frame_in_small_chunks_takes_linear_time() -> None:
    body = bytes(8 << 20)
    stream = encode_frame(7, 9, body)
    reader = FrameReader(16 << 20)

    out = []
    for at in range(0, len(stream), 4096):
        out += reader.feed(stream[at : at + 4096])

    assert out == [(7, 9, body)]
