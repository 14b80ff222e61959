"""Whatever arrives: no error, and no reply that another library cannot read."""

import random
import struct

from dnslib import DNSRecord
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.servers.dns.world import Door, instance

from waypost.servers.dns.message import Bad, Question, read_query

DOOR = Door()
DOOR.known.put(instance("web", "a", "10.0.0.1"))
DOOR.known.put(instance("web", "b", "::1"))
DOOR.known.put(instance("ext", "a", "one.example"))
DOOR.known.nodes["n"] = ["10.0.0.1"]

LABEL = st.sampled_from(
    [
        *(b"web", b"ext", b"service", b"waypost", b"CONSUL", b"node", b"n", b"addr", b"0a000001"),
        *(b"dc1", b"_web", b"_tcp", b"ns", b"x", b"in-addr", b"arpa", b"a" * 63, b"\x00", b"a.b"),
        b"\xff\xf9eb",
    ]
)
NAME = st.lists(LABEL, max_size=8).map(
    lambda labels: b"".join(bytes([len(one)]) + one for one in labels) + b"\x00"
)
HEADERS = st.tuples(
    st.integers(0, 65_535),
    st.sampled_from([0, 0x0100, 0x0110, 0x8000, 0x2800, 0xFFFF, 0x0001]),
    st.sampled_from([0, 1, 1, 1, 2]),
    st.sampled_from([0, 0, 0, 1]),
    st.sampled_from([0, 0, 0, 1]),
    st.sampled_from([0, 0, 1, 2, 65_535]),
).map(lambda fields: struct.pack("!HHHHHH", *fields))
KINDS = st.tuples(
    st.sampled_from([1, 2, 5, 6, 12, 16, 28, 33, 41, 251, 252, 255, 65]),
    st.sampled_from([1, 1, 3, 255]),
).map(lambda pair: struct.pack("!HH", *pair))
EXTRA = st.sampled_from(
    [
        b"",
        b"\x00\x00\x29\x04\xd0" + b"\x00" * 6,
        b"\x00\x00\x29\x04\xd0\x00\x01" + b"\x00" * 4,
        b"\xc0\x0c\x00\x01\x00\x01" + b"\x00" * 6,
        b"\x00\x00\x29\xff\xff\x00\x00\x00\x00\xff\xff",
    ]
)
WHOLE = st.tuples(HEADERS, NAME, KINDS, EXTRA, st.binary(max_size=4)).map(b"".join)


def readable(reply: bytes) -> bytes:
    """With letters in the question's name for what is none: the other library reads UTF-8 only."""
    shown = bytearray(reply)
    at = 12
    while reply[4:6] == b"\x00\x01" and shown[at]:
        for inside in range(at + 1, at + 1 + shown[at]):
            shown[inside] = ord("x") if shown[inside] >= 0x80 else shown[inside]
        at += 1 + shown[at]
    return bytes(shown)


def check(data: bytes) -> None:
    for over_tcp in (False, True):
        reply = DOOR.send(data, over_tcp=over_tcp)
        if reply is None:
            assert len(data) < 12 or data[2] & 0x80
            continue
        assert reply[:2] == data[:2]
        assert reply[2] & 0x80
        assert len(reply) <= (65_535 if over_tcp else 8_192)
        flags = struct.unpack_from("!H", reply, 2)[0]
        if not flags & 0xF:
            assert reply[12:].startswith(data[12 : 12 + 4])
        read = DNSRecord.parse(readable(reply))
        assert read.header.rcode in (0, 1, 2, 3, 4, 5)


@settings(max_examples=400)
@given(st.binary(max_size=600))
@example(b"")
@example(b"\x00" * 12)
@example(struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 0) + b"\xc0\x0c\x00\x01\x00\x01")
@example(struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 0) + b"\x3f" * 300)
def test_any_bytes_are_answered_or_dropped(data: bytes) -> None:
    check(data)


@settings(max_examples=600)
@given(WHOLE)
def test_anything_like_a_query_is_answered_or_dropped(data: bytes) -> None:
    check(data)


@given(WHOLE, st.integers(0, 2**32))
def test_a_query_that_is_damaged_on_its_way_is_answered_or_dropped(data: bytes, seed: int) -> None:
    chance = random.Random(seed)
    damaged = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    check(bytes(damaged[: chance.randrange(len(damaged) + 1)]))


@given(st.lists(st.binary(min_size=1, max_size=63), max_size=6))
def test_every_name_is_read_as_another_library_wrote_it(labels: list[bytes]) -> None:
    name = b"".join(bytes([len(one)]) + one for one in labels) + b"\x00"
    query = read_query(struct.pack("!HHHHHH", 1, 0, 1, 0, 0, 0) + name + b"\x00\x01\x00\x01")

    if len(name) > 255:
        assert isinstance(query, Bad)
    else:
        assert isinstance(query, Question)
        assert query.labels == tuple(one.lower() for one in labels)
