"""Replies: what is kept, how much fits, and in which order."""

from collections import Counter

import pytest
from dnslib import DNSRecord
from hypothesis import given
from hypothesis import strategies as st
from tests.servers.dns.world import Door, code, instance, told

from waypost.servers.dns import replies
from waypost.servers.dns.answers import Item
from waypost.servers.dns.replies import put_in_order


def full(count: int) -> Door:
    door = Door()
    for at in range(count):
        door.known.put(instance("web", f"i{at:04}", f"10.0.{at >> 8}.{at & 255}", port=1000 + at))
    return door


def test_the_question_comes_back_in_its_own_case_from_what_is_kept_too() -> None:
    door = full(3)

    for name in ("web.service.waypost", "WeB.sErViCe.WaYpOsT", "WEB.SERVICE.WAYPOST"):
        reply = door.ask(name)
        assert str(reply.q.qname) == f"{name}."
        assert {str(record.rname) for record in reply.rr} == {f"{name}."}


def test_a_change_is_seen_by_the_next_query_and_by_nobody_else_s() -> None:
    door = full(2)
    door.known.put(instance("other", "o", "10.9.0.1"))
    first = [door.ask(f"{name}.service.waypost") for name in ("web", "other")]

    door.known.drop("web", "i0001")

    assert told(door.ask("web.service.waypost")) == ["10.0.0.0"]
    assert told(door.ask("other.service.waypost")) == told(first[1])

    door.known.drop("web", "i0000")
    assert code(door.ask("web.service.waypost")) == "NXDOMAIN"
    door.known.put(instance("web", "back", "10.0.0.9"))
    assert told(door.ask("web.service.waypost")) == ["10.0.0.9"]


def test_a_service_that_takes_a_tag_s_name_is_seen_by_the_next_query() -> None:
    door = Door()
    door.known.put(instance("team", "t", "10.0.0.1", tags=("orders",)))
    assert told(door.ask("orders.team.service.waypost")) == ["10.0.0.1"]

    door.known.put(instance("team/orders", "o", "10.0.0.2"))
    assert told(door.ask("orders.team.service.waypost")) == ["10.0.0.2"]

    door.known.drop("team/orders", "o")
    assert told(door.ask("orders.team.service.waypost")) == ["10.0.0.1"]


@given(count=st.integers(0, 120), payload=st.integers(0, 2000), kind=st.sampled_from(["A", "SRV"]))
def test_a_datagram_is_never_longer_than_asked_and_says_when_it_is_not_all(
    count: int, payload: int, kind: str
) -> None:
    door = full(count)
    limit = max(payload, 512)

    reply = door.ask("web.service.waypost", kind, edns=payload)

    assert len(reply.pack()) <= limit + 64 * count  # the other library compresses less
    query = DNSRecord.question("web.service.waypost", kind)
    small = door.send(bytes(query.pack()))
    assert small is not None
    assert len(small) <= 512
    assert bool(reply.header.tc) == (len(reply.rr) < count)
    by_tcp = door.ask("web.service.waypost", kind, over_tcp=True)
    assert (by_tcp.header.tc, len(by_tcp.rr)) == (0, count)
    if reply.header.tc:
        assert not [each for each in reply.ar if each.rtype == 1]


def test_without_edns_512_bytes_are_the_limit_and_with_it_what_is_said() -> None:
    door = full(60)

    sizes: dict[int, int] = {}
    for payload in (0, 512, 1232, 4096, 65_535):
        query = DNSRecord.question("web.service.waypost", "SRV")
        data = bytes(query.pack())
        if payload:
            data = data[:11] + b"\x01" + data[12:] + b"\x00\x00\x29" + payload.to_bytes(2, "big")
            data += b"\x00" * 6
        reply = door.send(data)
        assert reply is not None
        sizes[payload] = len(reply)

    assert 400 < sizes[0] <= 512
    assert 400 < sizes[512] <= 512
    assert 1100 < sizes[1232] <= 1232
    assert 4000 < sizes[4096] <= 4096
    assert sizes[65_535] < 8192


def test_sixty_five_thousand_bytes_are_what_tcp_holds() -> None:
    door = full(5_000)

    reply = door.ask("web.service.waypost", over_tcp=True)

    assert reply.header.tc == 1
    assert len(reply.rr) > 4_000


def test_everybody_comes_first_as_often_as_his_weight_says() -> None:
    door = Door()
    for name, weight in (("a", 1), ("b", 2), ("c", 5)):
        door.known.put(instance("web", name, f"10.0.0.{weight}", weight=weight))
    rounds = 4_000

    first = Counter(str(door.ask("web.service.waypost").rr[0].rdata) for _ in range(rounds))

    for weight in (1, 2, 5):
        share = first[f"10.0.0.{weight}"] / rounds
        assert share == pytest.approx(weight / 8, abs=0.06)


@given(st.lists(st.floats(0.001, 65_535), max_size=20), st.randoms(use_true_random=False))
def test_an_order_has_everybody_once(weights: list[float], chance: object) -> None:
    items = [Item(bytes([at]), weight=weight) for at, weight in enumerate(weights)]

    ordered = put_in_order(items, chance.random)  # type: ignore[attr-defined]

    assert sorted(item.record for item in ordered) == [item.record for item in items]


def test_what_is_kept_is_bounded() -> None:
    door = full(1)

    for at in range(replies.KEPT_MAX + 10):
        door.ask(f"x{at}.service.waypost")

    assert sum(map(len, door.replies._kept)) <= replies.KEPT_MAX


def test_the_first_of_very_many_are_drawn_by_weight_too() -> None:
    door = full(600)
    for at in range(600, 1_200):
        host = f"10.1.{at >> 8}.{at & 255}"
        door.known.put(instance("web", f"heavy{at}", host, weight=3))

    firsts: Counter[str] = Counter()
    for _ in range(800):
        reply = door.ask("web.service.waypost")
        assert reply.header.tc
        assert len(set(told(reply))) == len(reply.rr) > 25
        firsts[str(reply.rr[0].rdata)[:5]] += 1

    assert firsts["10.1."] / 800 == pytest.approx(0.75, abs=0.1)


def test_at_a_low_rate_two_replies_are_hardly_ever_in_the_same_order() -> None:
    door = full(8)

    orders = [[str(each.rdata) for each in door.ask("web.service.waypost").rr] for _ in range(16)]

    assert len({tuple(order) for order in orders}) > 12


def test_a_change_among_many_is_told_a_little_later_and_among_few_at_once() -> None:
    many = replies.MANY + 1
    door = full(many)
    door.ask("web.service.waypost", over_tcp=True)

    door.known.drop("web", "i0000")
    assert len(door.ask("web.service.waypost", over_tcp=True).rr) == many
    door.now_s += many * replies.PATIENCE_S
    assert len(door.ask("web.service.waypost", over_tcp=True).rr) == many - 1
    door.known.drop("web", "i0001")  # as many as are few
    door.now_s += many * replies.PATIENCE_S
    door.ask("web.service.waypost", over_tcp=True)

    door.known.drop("web", "i0002")
    assert len(door.ask("web.service.waypost", over_tcp=True).rr) == many - 3


def test_queries_that_differ_only_by_case_share_a_reply_and_no_others_do() -> None:
    door = full(100)
    sizes = {0x0541: 0, 0x0561: 0}  # "A" and "a", as case goes

    for payload in (*sizes, *sizes):
        data = bytes(DNSRecord.question("web.service.waypost").pack())
        data = data[:11] + b"\x01" + data[12:] + b"\x00\x00\x29" + payload.to_bytes(2, "big")
        reply = door.send(data + b"\x00" * 6)
        assert reply is not None
        assert payload - 16 <= len(reply) <= payload


def test_what_is_kept_again_is_counted_once() -> None:
    door = full(20)
    door.ask("web.service.waypost")
    size = door.replies._kept_bytes

    for version in range(50):
        door.known.put(instance("web", "i0000", "10.0.0.0", version=str(version)))
        door.ask("web.service.waypost")

    assert door.replies._kept_bytes == size
