"""The door with its sockets, over a real node."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from dnslib import RR, DNSRecord
from hypothesis import given
from hypothesis import strategies as st
from tests.servers.dns.serving import frame, read_reply, run, serving
from tests.servers.dns.world import code, told

from waypost.checks import NodeEntry
from waypost.node.bootstrap import NodeConfig
from waypost.servers.dns import connection
from waypost.servers.dns.connection import Connection
from waypost.servers.dns.counts import Counts
from waypost.servers.dns.following import read_records, write_question
from waypost.servers.dns.settings import DnsSettings
from waypost.standalone import Standalone


def test_it_is_there_only_where_it_was_asked_for() -> None:
    async def story() -> None:
        for options in ({"dns_port": None}, {"without": {"dns"}}):
            standalone = Standalone(
                NodeConfig(), native_port=0, http_port=None, **{"dns_port": 0, **options}
            )
            await standalone.start()
            assert standalone.dns_address == ""
            await standalone.stop()

    run(story)


def test_both_transports_are_on_one_port_and_are_free_again_afterwards() -> None:
    async def story() -> None:
        async with serving() as world:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as other, pytest.raises(OSError):
                    other.bind(world.address)
        async with serving(dns_port=world.address[1]) as again:
            assert again.address == world.address

    run(story)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_port_that_is_taken_for_either_transport_is_an_error(kind: int) -> None:
    async def story() -> None:
        with socket.socket(socket.AF_INET, kind) as holder:
            holder.bind(("127.0.0.1", 0))
            with pytest.raises(OSError):
                async with serving(dns_port=holder.getsockname()[1]):
                    pass

    run(story)


def test_a_reply_leaves_from_the_address_that_was_asked() -> None:
    async def story() -> None:
        async with serving(host="0.0.0.0") as world:
            await world.register("web", "a", "10.0.0.1")
            for host in ("127.0.0.1", "127.0.0.77"):
                # A connected socket takes nothing from any other address.
                world.address = (host, world.address[1])
                assert told(await world.ask("web.service.waypost")) == ["10.0.0.1"]
            assert told(await world.ask("ns.waypost")) == []
        async with serving(host="::1") as world:
            world.family = socket.AF_INET6
            assert told(await world.ask("ns.waypost", "AAAA")) == ["::1"]
        async with serving(host="::") as world:
            world.family = socket.AF_INET6
            world.address = ("::1", world.address[1])
            assert code(await world.ask("web.service.waypost")) == "NXDOMAIN"

    run(story)


def test_many_queries_on_one_connection_are_all_answered_however_they_are_cut() -> None:
    async def story() -> None:
        async with serving() as world:
            await world.register("web", "a", "10.0.0.1")
            reader, writer = await asyncio.open_connection(*world.address)
            queries = [DNSRecord.question("web.service.waypost") for _ in range(5)]
            said = b"".join(frame(bytes(query.pack())) for query in queries)
            for at in range(0, len(said), 7):
                writer.write(said[at : at + 7])
                await writer.drain()
                await asyncio.sleep(0)
            ids = [(await read_reply(reader)).header.id for _ in queries]
            assert ids == [query.header.id for query in queries]
            writer.close()

    run(story)


def test_a_connection_that_sends_no_dns_or_nothing_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "IDLE_S", 0.1)

    async def story() -> None:
        async with serving() as world:
            for said in (b"\x00\x01x", b"", b"\x00\x40half"):
                reader, writer = await asyncio.open_connection(*world.address)
                writer.write(said)
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                writer.close()

    run(story)


def test_connections_beyond_the_limit_are_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECTIONS_MAX", 2)

    async def story() -> None:
        async with serving() as world:
            await world.register("web", "a", "10.0.0.1")
            kept = [await asyncio.open_connection(*world.address) for _ in range(2)]
            for reader, writer in kept:
                writer.write(frame(bytes(DNSRecord.question("web.service.waypost").pack())))
                assert told(await read_reply(reader)) == ["10.0.0.1"]
            reader, writer = await asyncio.open_connection(*world.address)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            for _, each in kept:
                each.close()

    run(story)


class Deaf:
    """A transport to a client that takes one answer at a time."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.does_read = True

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return ("127.0.0.1", 1)

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self.client.pause_writing()

    def pause_reading(self) -> None:
        self.does_read = False

    def resume_reading(self) -> None:
        self.does_read = True


def test_a_client_that_does_not_read_its_answers_gets_no_more_of_them_and_is_not_read() -> None:
    async def story() -> None:
        client = Connection(set(), lambda asking, query: asking.send(query), Counts())
        transport: Any = Deaf()
        transport.client = client
        client.connection_made(transport)
        queries = [bytes([number]) * 12 for number in range(5)]

        client.data_received(b"".join(map(frame, queries)))

        for count in range(1, 6):
            assert transport.written == list(map(frame, queries[:count]))
            assert not transport.does_read
            client.resume_writing()
        assert transport.does_read
        client.connection_lost(None)

    run(story)


def test_nodes_and_addresses_are_found_in_the_registry() -> None:
    async def story() -> None:
        async with serving() as world:
            await world.register("web", "a", "10.0.0.1", node="Rack-1")
            await world.register("team/orders", "b", "10.0.0.1", node="Rack-1")
            assert told(await world.ask("rack-1.node.waypost")) == ["10.0.0.1"]
            assert told(await world.ask("1.0.0.10.in-addr.arpa", "PTR")) == [
                "orders.team.service.waypost.",
                "web.service.waypost.",
            ]

            await world.registry.put_node(NodeEntry("Rack-1", "10.0.9.9", meta={"room": "b"}))
            assert told(await world.ask("rack-1.node.waypost")) == ["10.0.9.9"]
            assert told(await world.ask("rack-1.node.waypost", "TXT")) == ['"room=b"']

            await world.register("web", "a", "10.0.0.2", node="Rack-1")
            await world.register("new", "n", "10.0.0.3")
            assert told(await world.ask("2.0.0.10.in-addr.arpa", "PTR")) == ["web.service.waypost."]
            assert told(await world.ask("3.0.0.10.in-addr.arpa", "PTR")) == ["new.service.waypost."]
            await world.registry.set_health("team/orders", "b", "critical")
            assert code(await world.ask("1.0.0.10.in-addr.arpa", "PTR")) == "REFUSED"
            await world.registry.deregister("new", "n")
            assert code(await world.ask("3.0.0.10.in-addr.arpa", "PTR")) == "REFUSED"

    run(story)


class Upstream(asyncio.DatagramProtocol):
    """Somebody else's DNS server; it may lie."""

    def __init__(self, zone: dict[str, str], *, lies: bool = False) -> None:
        self._zone = zone
        self._lies = lies
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = DNSRecord.parse(data)
        self.asked.append(str(query.q.qname))
        reply = query.reply()
        zone = self._zone.get(str(query.q.qname), f"{query.q.qname} 60 A 192.0.2.1")
        reply.add_answer(*RR.fromZone(zone))
        packed = bytes(reply.pack())
        if self._lies:
            packed = bytes([packed[0] ^ 1]) + packed[1:]
        self._transport.sendto(packed, addr)


@asynccontextmanager
async def upstream(
    zone: dict[str, str] | None = None, *, lies: bool = False
) -> AsyncIterator[tuple[Upstream, tuple[str, int]]]:
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Upstream(zone or {}, lies=lies), local_addr=("127.0.0.1", 0)
    )
    try:
        yield server, transport.get_extra_info("sockname")
    finally:
        transport.close()


def test_other_names_are_asked_of_others_if_we_are_told_to_and_ours_never() -> None:
    async def story() -> None:
        async with (
            upstream() as (other, address),
            serving(dns=DnsSettings(forward=(address,))) as world,
        ):
            reply = await world.ask("example.org")
            assert (told(reply), reply.header.ra, reply.header.aa) == (["192.0.2.1"], 1, 0)
            assert code(await world.ask("nobody.service.waypost")) == "NXDOMAIN"
            assert other.asked == ["example.org."]
            forwarded = {each.name: each.samples for each in world.registry.metrics()}
            assert forwarded["waypost_dns_forwarded_total"] == [({}, 1)]

            plain = DNSRecord.question("example.org")
            plain.header.rd = 0
            assert code(DNSRecord.parse(await world.send(bytes(plain.pack())))) == "REFUSED"

    run(story)


def test_an_answer_that_was_not_asked_for_is_none_and_the_next_server_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("waypost.servers.dns.forwarding.WAIT_S", 0.2)

    async def story() -> None:
        async with (
            upstream(lies=True) as (liar, first),
            upstream() as (_, second),
            serving(dns=DnsSettings(forward=(first, second))) as world,
            serving(dns=DnsSettings(forward=(first,))) as other,
        ):
            assert told(await world.ask("example.org")) == ["192.0.2.1"]
            assert code(await other.ask("example.org")) == "SERVFAIL"
            assert len(liar.asked) == 2

    run(story)


def test_an_alias_is_followed_for_those_who_have_nobody_else_to_ask() -> None:
    async def story() -> None:
        zone = {
            "www.example.org.": "www.example.org 60 CNAME edge.example.org\n"
            "edge.example.org 30 A 192.0.2.7\nedge.example.org 30 A 192.0.2.8"
        }
        async with (
            upstream(zone) as (other, address),
            serving(dns=DnsSettings(forward=(address,))) as world,
            serving() as alone,
        ):
            for each in (world, alone):
                await each.register("ext", "a", "www.example.org")
                await each.register("own", "a", "ext.service.waypost")
            chain = ["192.0.2.7", "192.0.2.8", "edge.example.org.", "www.example.org."]

            reply = await world.ask("ext.service.waypost")
            assert next(str(each.rdata) for each in reply.rr) == "www.example.org."
            assert (told(reply), code(reply)) == (chain, "NOERROR")
            assert {str(each.rname) for each in reply.rr[1:]} == {
                "www.example.org.",
                "edge.example.org.",
            }
            reader, writer = await asyncio.open_connection(*world.address)
            writer.write(frame(bytes(DNSRecord.question("own.service.waypost").pack())))
            assert told(await read_reply(reader)) == ["ext.service.waypost."]
            writer.close()
            assert other.asked == ["www.example.org."]
            assert told(await alone.ask("ext.service.waypost")) == ["www.example.org."]

    run(story)


@given(st.binary(max_size=120), st.integers(0, 3))
def test_whatever_somebody_else_answers_is_read_or_left(tail: bytes, count: int) -> None:
    question = write_question(b"\x01x\x00", 1)
    reply = question[:6] + struct.pack("!HHH", count, 0, 0) + question[12:] + tail

    for record in read_records(reply, len(question)):
        at = record.index(b"\x00") + 1 if b"\x00" in record else 0
        assert at
        assert len(record) <= 2 * 256 + 10


def test_an_address_of_the_wrong_length_is_not_passed_on() -> None:
    question = write_question(b"\x01x\x00", 1)
    records = b"".join(
        b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, length) + b"\x01" * length
        for kind, length in ((1, 3), (1, 4), (28, 4), (28, 16))
    )

    found = read_records(question[:6] + b"\0\4" + question[8:] + records, len(question))

    assert [len(record) - 13 for record in found] == [4, 16]


def test_a_pointer_that_leads_forward_or_to_itself_is_no_name() -> None:
    question = write_question(b"\x01x\x00", 1)
    for pointer in (len(question), len(question) + 16):
        record = struct.pack("!H", 0xC000 | pointer) + struct.pack("!HHIH", 1, 1, 0, 4) + b"\1" * 4
        reply = question[:6] + b"\0\1" + question[8:] + record

        assert read_records(reply, len(question)) == []


def test_nothing_but_the_configured_servers_is_ever_asked() -> None:
    async def story() -> None:
        async with serving() as world:
            reply = await world.ask("example.org")
            assert (code(reply), reply.header.ra) == ("REFUSED", 0)

    run(story)
