"""What the door says of itself in the metrics."""

import asyncio
import socket

from dnslib import DNSRecord
from tests.servers.dns.serving import World, frame, read_reply, run, serving
from tests.servers.dns.world import code

from waypost.servers.dns.counts import Counts


def counted(world: World) -> dict[str, float]:
    """What is above zero, of what the door counts."""
    return {
        "/".join([metric.name.removeprefix("waypost_dns_"), *labels.values()]): value
        for metric in world.registry.metrics()
        for labels, value in metric.samples
        if metric.name.startswith("waypost_dns_") and value
    }


def test_each_reply_is_counted_once_by_its_code_and_by_how_it_went() -> None:
    async def story() -> None:
        async with serving() as world:
            for number in range(60):
                await world.register("web", f"i{number}", f"10.0.0.{number}")
            assert counted(world) == {}

            for _ in range(2):  # made, then kept
                assert (await world.ask("web.service.waypost")).header.tc == 1
            assert code(await world.ask("nobody.service.waypost")) == "NXDOMAIN"
            assert code(await world.ask("example.org")) == "REFUSED"
            assert code(DNSRecord.parse(await world.send(bytes(12)))) == "FORMERR"

            reader, writer = await asyncio.open_connection(*world.address)
            writer.write(frame(bytes(DNSRecord.question("web.service.waypost").pack())))
            assert len((await read_reply(reader)).rr) == 60
            writer.close()

            assert counted(world) == {
                "replies_total/udp/NOERROR": 2,
                "replies_total/udp/NXDOMAIN": 1,
                "replies_total/udp/REFUSED": 1,
                "replies_total/udp/FORMERR": 1,
                "replies_total/tcp/NOERROR": 1,
                "truncated_total": 2,
            }

    run(story)


def test_what_gets_no_reply_is_counted_too() -> None:
    async def story() -> None:
        async with serving() as world:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.sendto(b"no query", world.address)
            assert code(await world.ask("nobody.service.waypost")) == "NXDOMAIN"  # read after it
            reader, writer = await asyncio.open_connection(*world.address)
            writer.write(frame(b"no query"))
            assert await reader.read() == b""
            writer.close()

            assert counted(world)["ignored_total"] == 2

    run(story)


def test_a_code_that_others_gave_is_told_by_its_number() -> None:
    counts = Counts()
    counts.by_udp.count(b"\0\1\x82\x09")  # not authoritative (9), and cut

    assert counts.by_udp.by_code()["9"] == 1
    assert counts.by_udp.truncated == 1
