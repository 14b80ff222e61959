"""Frames, pressure in both directions, and the end of a connection."""

import asyncio
import random
import socket
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from tests.servers.native.peer import Peer, number
from tests.servers.native.world import World, native, opened, until

from waypost import wire
from waypost.commands import ClientCommand, Register
from waypost.errors import Unavailable
from waypost.model import Instance
from waypost.servers.native.connection import LINGER_S, WRITES_UNDER_WAY_MAX
from waypost.transport.frames import encode_frame

MEGABYTE = 1 << 20
TEXT = "x" * 500


def big(n: int, generation: int = 0) -> Register:
    """A registration of some 2 KB."""
    meta = {f"key-{k}": TEXT for k in range(4)}
    return Register(
        Instance("orders", f"o-{n}", "10.0.0.1", 8080, version=f"{generation}", meta=meta)
    )


async def fill(peer: Peer, instances: int, generation: int = 0) -> int:
    """Register many large instances, and return the revision."""
    revision = 0
    for first in range(0, instances, 400):
        group: list[ClientCommand] = [
            big(n, generation) for n in range(first, min(first + 400, instances))
        ]
        revision = (await peer.write(*group)).revision
    return revision


# Frames


@native
async def test_frames_arrive_whole_however_the_network_cuts_them(world: World) -> None:
    peer = await world.connect(hello=False)
    said = encode_frame(wire.HELLO, 1, wire.encode(wire.Hello(1)))
    said += encode_frame(wire.WRITE, 2, wire.encode([big(1)]))
    said += encode_frame(wire.PING, 3)

    at = 0
    draw = random.Random(7)
    while at < len(said):
        step = draw.randint(1, 40)
        peer.raw(said[at : at + step])
        at += step
        await asyncio.sleep(0)

    await peer.hear(wire.WELCOME, 1)
    heard = [(await peer.frame())[:2] for _ in range(2)]
    assert sorted(heard) == [(wire.PONG, 3), (wire.OUTCOMES, 2)]


@pytest.mark.parametrize("length", [0, 4, wire.REQUEST_BYTES_MAX + 1, 2**32 - 1])
def test_a_frame_of_a_length_that_cannot_be_is_told_and_ends_the_connection(length: int) -> None:
    @native
    async def test(world: World) -> None:
        peer = await world.connect()

        peer.raw(length.to_bytes(4, "big"), bytes(MEGABYTE * 2))

        fault = await peer.fault(0)
        assert fault.code == "protocol-violation"
        assert f"frame length {length} is outside 5 to {wire.REQUEST_BYTES_MAX}" in fault.message
        assert await peer.hears_the_end()

    test()


@native
async def test_a_frame_as_large_as_allowed_is_taken(world: World) -> None:
    peer = await world.connect()
    body = b"\xdb" + (wire.REQUEST_BYTES_MAX - 10).to_bytes(4, "big")
    body += b"s" * (wire.REQUEST_BYTES_MAX - 10)
    frame = encode_frame(wire.DETACH, 7, body)
    assert len(frame) - 4 == wire.REQUEST_BYTES_MAX

    peer.raw(frame)

    assert (await peer.fault(7)).field == "session"


@native
async def test_a_client_that_is_hung_up_on_and_stays_is_dropped_soon(world: World) -> None:
    peer = await world.connect()

    peer.raw(bytes(9))

    assert (await peer.fault(0)).code == "protocol-violation"
    peer.say(wire.WRITE, 7, [big(1)])  # it is not listened to any more
    await until(lambda: not world.server.connections, LINGER_S + 5)
    assert world.node.revision == 0


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_client_that_broke_off_can_be_hung_up_on(run: Callable[[Any], None]) -> None:
    async def test() -> None:
        async with opened() as world:
            with socket.create_connection(world.address) as client:
                await until(lambda: len(world.server.connections) == 1)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

            world.connection.hang_up(Unavailable("the test is over"))  # it does not know yet

            await until(lambda: not world.server.connections)

    run(test())


@native
async def test_a_client_that_leaves_in_the_middle_of_a_frame_leaves_nothing(world: World) -> None:
    peer = await world.connect()
    await peer.attach("s", grace_ms=0)
    await peer.register("orders", "o-1", "s")

    peer.raw(encode_frame(wire.WRITE, 7, wire.encode([big(1)]))[:100])
    peer.close()

    await until(lambda: not world.server.connections)
    await until(lambda: world.find("orders", "o-1") is None)
    assert world.node.catalog.instance_count == 0


@native
async def test_answers_to_writes_under_way_are_not_waited_for_by_the_log(world: World) -> None:
    peer, other = await world.connect(), await world.connect()

    for n in range(100):
        peer.say(wire.WRITE, n, [big(n)])
    peer.close()

    await until(lambda: len(world.server.connections) == 1)
    await world.idle()
    assert number((await other.write(big(1_000))).outcomes[0]) > 0


# Clients that do not read


@native
async def test_a_client_that_reads_no_answers_is_not_read_from(world: World) -> None:
    other = await world.connect()
    await fill(other, 400)  # an answer of 800 KB for a question of 17 bytes
    greedy = await world.connect(receive_bytes=4_096)
    question = encode_frame(wire.RESOLVE, 7, wire.encode(wire.Resolve("orders")))
    tracemalloc.start()

    greedy.raw(question * 10_000)  # 8 GB of answers, asked for in one breath
    await until(lambda: any(c.is_slow for c in world.server.connections))
    for _ in range(20):
        assert len((await other.resolve("orders")).records) == 400

    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    (slow,) = [c for c in world.server.connections if c.is_slow]
    assert slow.transport is not None
    assert slow.transport.get_write_buffer_size() < 4 * MEGABYTE
    assert grown < 16 * MEGABYTE


@native
async def test_a_client_that_reads_again_gets_every_answer_in_order(world: World) -> None:
    other = await world.connect()
    await fill(other, 200)
    peer = await world.connect(receive_bytes=65_536)

    asked = [peer.ask(wire.RESOLVE, wire.Resolve("orders")) for _ in range(100)]
    asked.append(peer.ask(wire.PING))
    await until(lambda: any(c.is_slow for c in world.server.connections))

    for ask in asked[:-1]:
        await peer.hear(wire.RESOLVED, ask)
    await peer.hear(wire.PONG, asked[-1])


@native
async def test_a_write_is_answered_though_thousands_are_sent_without_waiting(
    world: World,
) -> None:
    peer = await world.connect()
    count = 3 * WRITES_UNDER_WAY_MAX

    peer.raw(
        *(encode_frame(wire.WRITE, n + 10, wire.encode([big(n % 50, n)])) for n in range(count))
    )

    for n in range(count):
        number(wire.decode_outcomes(await peer.hear(wire.OUTCOMES, n + 10)).outcomes[0])
    assert world.record("orders", f"o-{(count - 1) % 50}").instance.version == f"{count - 1}"


@native
async def test_what_waited_for_writes_is_answered_as_of_after_them(world: World) -> None:
    peer = await world.connect()
    await peer.register("orders", "o-1")
    await peer.resolve("orders")  # its answer is kept now
    world.gate.hold()

    writes = WRITES_UNDER_WAY_MAX + 1
    instances = [Instance("orders", "o-1", "h", 80, version=str(n)) for n in range(writes)]
    peer.raw(
        *(
            encode_frame(wire.WRITE, n + 10, wire.encode([Register(each)]))
            for n, each in enumerate(instances)
        ),
        encode_frame(wire.RESOLVE, 9, wire.encode(wire.Resolve("orders"))),
    )
    await until(lambda: world.node.replica.waiting_commands == writes)
    world.gate.release()

    for n in range(writes):
        await peer.hear(wire.OUTCOMES, n + 10)
    resolved = wire.decode_resolved(await peer.hear(wire.RESOLVED, 9))
    assert resolved.records == [world.record("orders", "o-1")]


@native
async def test_many_watches_of_a_client_that_does_not_read_wait_for_one_another(
    world: World,
) -> None:
    writer = await world.connect()
    peer = await world.connect(receive_bytes=65_536)
    watches = range(1_000, 1_030)
    for watch in watches:
        peer.say(wire.WATCH, watch, wire.Watch("orders"))
        await peer.hear(wire.SNAPSHOT, watch)
    for generation in range(3):
        await fill(writer, 400, generation)
    (slow,) = [c for c in world.server.connections if c.is_slow]

    views: dict[int, dict[str, str]] = {watch: {} for watch in watches}
    while any(set(view.values()) != {"2"} for view in views.values()):
        _, watch, body = await peer.frame()
        for change in wire.decode_changes(body).changes:
            instance = change.record.instance
            views[watch][instance.id] = instance.version
        assert slow.transport is not None
        assert slow.transport.get_write_buffer_size() < 4 * MEGABYTE

    assert all(len(view) == 400 for view in views.values())


@native
async def test_a_watcher_that_does_not_read_costs_little_and_then_gets_the_latest_state(
    world: World,
) -> None:
    writer, quick = await world.connect(), await world.connect()
    slow = await world.connect(receive_bytes=4_096)
    for watcher in (slow, quick):
        watcher.say(wire.WATCH, 7, wire.Watch("orders"))
        await watcher.hear(wire.SNAPSHOT, 7)
    seen: list[tuple[int, str]] = []

    async def write(generation: int) -> None:
        revision = await fill(writer, 400, generation)
        while not seen or seen[-1][0] < revision:
            changes = wire.decode_changes(await quick.hear(wire.CHANGES, 7))
            seen.extend((c.revision, c.record.instance.id) for c in changes.changes)

    await write(0)
    tracemalloc.start()
    for generation in range(1, 50):  # 20,000 changes of 2 KB in all
        await write(generation)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    # Whoever reads was told everything, in order.
    assert seen == [(r, f"o-{n}") for r in range(1, 51) for n in range(400)]
    (lagging,) = [c for c in world.server.connections if c.is_slow]
    assert lagging.transport is not None
    assert lagging.transport.get_write_buffer_size() < 4 * MEGABYTE
    assert grown < 25 * MEGABYTE, "the history of 20,000 changes, and nothing for the slow one"

    # Now it reads: what had been sent, and then the latest of each instance, once.
    view: dict[str, str] = {}
    revision = 0
    while revision < world.node.revision:
        kind, _, body = await slow.frame()
        if kind == wire.SNAPSHOT:
            snapshot = wire.decode_snapshot(body)
            view = {r.instance.id: r.instance.version for r in snapshot.records}
            revision = snapshot.revision
        elif kind == wire.CHANGES:
            changes = wire.decode_changes(body)
            assert changes.revision > revision
            view |= {c.record.instance.id: c.record.instance.version for c in changes.changes}
            revision = changes.revision
    assert view == {f"o-{n}": "49" for n in range(400)}
    assert world.node.watches.coalesced >= 1


@native
async def test_a_client_that_is_reading_a_large_answer_is_not_taken_for_dead(
    world: World,
) -> None:
    other = await world.connect()
    await fill(other, 4_000)  # 8 MB
    peer = await world.connect(receive_bytes=65_536)
    await peer.attach("s", ttl_ms=6_000, grace_ms=0)
    await peer.register("slow-link", "l-1", "s")
    peer.say(wire.WATCH, 7, wire.Watch("orders"))
    await until(lambda: any(c.is_slow for c in world.server.connections))

    got = 0
    while any(c.is_slow for c in world.server.connections):
        got += len(await peer.some_bytes())
        await world.advance(0.25, look=True)  # a slow link
        await other.fence()
    assert world.now_ns > 12e9, f"{got} bytes in {world.now_ns / 1e9} s show nothing"

    assert world.find("slow-link", "l-1") is not None
    assert not world.record("slow-link", "l-1").suspect


@native
async def test_a_client_that_stopped_reading_altogether_is_dropped_by_its_silence(
    world: World,
) -> None:
    other = await world.connect()
    await fill(other, 4_000)
    peer = await world.connect(receive_bytes=4_096)
    peer.say(wire.WATCH, 7, wire.Watch("orders"))
    await until(lambda: any(c.is_slow for c in world.server.connections))

    for _ in range(8):
        await world.advance(1, look=True)
        await other.fence()

    assert len(world.server.connections) == 1
