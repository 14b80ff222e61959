"""What a query may be, by the letter of the RFCs."""

import struct

import pytest
from dnslib import EDNS0, QTYPE, DNSRecord
from tests.servers.dns.world import Door, code, instance

NAME = b"\x03web\x07service\x07waypost\x00"
A_IN = b"\x00\x01\x00\x01"
OPT = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"
OPT_V1 = b"\x00\x00\x29\x04\xd0\x00\x01\x00\x00\x00\x00"


@pytest.fixture
def door() -> Door:
    door = Door()
    door.known.put(instance("web", "a"))
    return door


def query(
    flags: int = 0x0100,
    counts: tuple[int, int, int, int] = (1, 0, 0, 0),
    body: bytes = NAME + A_IN,
) -> bytes:
    return struct.pack("!HHHHHH", 7, flags, *counts) + body


def replied(door: Door, data: bytes) -> DNSRecord:
    reply = door.send(data)
    assert reply is not None
    return DNSRecord.parse(reply)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (query(), "NOERROR"),
        (query(0), "NOERROR"),
        (query(counts=(1, 0, 0, 1), body=NAME + A_IN + OPT), "NOERROR"),
        (query(counts=(0, 0, 0, 0), body=b""), "FORMERR"),
        (query(counts=(2, 0, 0, 0), body=(NAME + A_IN) * 2), "FORMERR"),
        (query(counts=(1, 1, 0, 0)), "FORMERR"),
        (query(counts=(1, 0, 1, 0)), "FORMERR"),
        (query(body=NAME), "FORMERR"),
        (query(body=NAME[:-1]), "FORMERR"),
        (query(body=NAME + A_IN + b"more"), "FORMERR"),
        (query(body=b"\xc0\x0c" + A_IN), "FORMERR"),
        (query(body=b"\x40" + b"x" * 64 + b"\x00" + A_IN), "FORMERR"),
        (query(body=(b"\x3f" + b"x" * 63) * 4 + b"\x00" + A_IN), "FORMERR"),
        (query(body=NAME + b"\x00\x29\x00\x01"), "FORMERR"),
        (query(counts=(1, 0, 0, 1)), "FORMERR"),
        (query(counts=(1, 0, 0, 2), body=NAME + A_IN + OPT + OPT), "FORMERR"),
        (query(counts=(1, 0, 0, 1), body=NAME + A_IN + b"\x01x" + OPT), "FORMERR"),
        (query(counts=(1, 0, 0, 1), body=NAME + A_IN + OPT[:-1] + b"\x09"), "FORMERR"),
        (query(body=NAME + b"\x00\xfc\x00\x01"), "NOTIMP"),
        (query(body=NAME + b"\x00\xfb\x00\x01"), "NOTIMP"),
        (query(0x2000), "NOTIMP"),
        (query(0x2800), "NOTIMP"),
        (query(body=NAME + b"\x00\x01\x00\x03"), "REFUSED"),
        (query(body=NAME + b"\x00\x01\x00\xff"), "NOERROR"),
    ],
)
def test_a_query_is_answered_or_refused_by_the_rules(
    door: Door, data: bytes, expected: str
) -> None:
    for _ in range(2):  # what is kept is no different
        reply = replied(door, data)
        assert (code(reply), reply.header.id, reply.header.qr) == (expected, 7, 1)
        assert reply.header.opcode == data[2] >> 3 & 15
        assert reply.header.rd == data[2] & 1


@pytest.mark.parametrize("data", [b"", b"\x00" * 11, query(0x8180), query(0x8000, body=b"")])
def test_a_reply_and_what_is_too_short_are_never_answered(door: Door, data: bytes) -> None:
    assert door.send(data) is None


def test_edns_is_answered_if_it_was_spoken_and_only_in_a_version_that_we_know(door: Door) -> None:
    with_opt = replied(door, query(counts=(1, 0, 0, 1), body=NAME + A_IN + OPT))
    without = replied(door, query())
    newer = replied(door, query(counts=(1, 0, 0, 1), body=NAME + A_IN + OPT_V1))
    transfer = replied(door, query(counts=(1, 0, 0, 1), body=NAME + b"\x00\xfc\x00\x01" + OPT))

    assert [record.rtype for record in with_opt.ar] == [QTYPE.OPT]
    assert without.ar == []
    (opt,) = newer.ar
    assert (newer.header.rcode, opt.ttl >> 24, newer.rr) == (0, 1, [])  # BADVERS is 16
    assert [record.rtype for record in transfer.ar] == [QTYPE.OPT]


def test_options_of_edns_are_ignored(door: Door) -> None:
    asked = DNSRecord.question("web.service.waypost")
    asked.add_ar(EDNS0(udp_len=1232, flags="do"))
    data = bytes(asked.pack())
    cookie = b"\x00\x0a\x00\x08" + b"12345678"
    data = data[:-2] + struct.pack("!H", len(cookie)) + cookie

    reply = replied(door, data)

    assert (code(reply), len(reply.rr), len(reply.ar)) == ("NOERROR", 1, 1)


def test_it_says_that_it_is_an_authority_and_does_not_recurse(door: Door) -> None:
    header = replied(door, query(0x0110)).header

    assert (header.aa, header.ra, header.ad, header.cd, header.tc) == (1, 0, 0, 1, 0)
