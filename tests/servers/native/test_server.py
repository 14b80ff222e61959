"""The door opens, finds out who is gone, and closes."""

import asyncio
import time

import pytest
import uvloop
from tests.servers.native.test_connection import fill
from tests.servers.native.world import World, native, until

from waypost import wire
from waypost.node.registry import Registry
from waypost.servers.native.server import NativeServer


@native
async def test_a_port_of_zero_is_any_that_is_free(world: World) -> None:
    another = NativeServer(world.node, Registry(world.node), "127.0.0.1", 0)

    host, port = await another.start()

    assert (host, port) != world.address
    assert port > 0
    await another.stop()


@native
async def test_a_port_that_is_taken_is_an_error(world: World) -> None:
    another = NativeServer(world.node, Registry(world.node), *world.address)

    with pytest.raises(OSError, match="ddress already in use"):
        await another.start()


@native
async def test_a_stop_tells_every_client_to_go_and_then_closes(world: World) -> None:
    peers = [await world.connect() for _ in range(3)]

    stopping = asyncio.ensure_future(world.server.stop())

    for peer in peers:
        assert await peer.hear(wire.GOING, 0) == b""
        assert await peer.hears_the_end()
    await stopping


@native
async def test_a_client_is_answered_between_the_news_and_the_end(world: World) -> None:
    peer = await world.connect()

    stopping = asyncio.ensure_future(world.server.stop())
    await peer.hear(wire.GOING, 0)

    assert await peer.register("orders", "o-1") == 1
    await stopping


@native
async def test_a_stop_is_over_as_soon_as_everybody_has_left(world: World) -> None:
    peer = await world.connect()

    stopping = asyncio.ensure_future(world.server.stop())
    await peer.hear(wire.GOING, 0)
    peer.close()

    async with asyncio.timeout(5):
        await stopping
    assert world.server.connections == []


@native
async def test_a_stop_does_not_wait_for_a_client_that_does_not_read(world: World) -> None:
    other = await world.connect()
    await fill(other, 2_000)
    peer = await world.connect(receive_bytes=4_096)
    peer.say(wire.WATCH, 7, wire.Watch("orders"))
    await until(lambda: any(c.is_slow for c in world.server.connections))

    async with asyncio.timeout(5):
        await world.server.stop()

    await until(lambda: not world.server.connections)


@native
async def test_a_stop_suspects_nobody_and_ends_no_session(world: World) -> None:
    patient, hasty = await world.connect(), await world.connect()
    await patient.attach("patient", grace_ms=2_000)
    await patient.register("orders", "o-1", "patient")
    await hasty.attach("hasty", grace_ms=0)
    await hasty.register("orders", "o-2", "hasty")

    await world.server.stop()
    await world.idle()

    assert not world.record("orders", "o-1").suspect
    assert not world.record("orders", "o-2").suspect
    assert len(world.node.catalog.sessions) == 2


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_silent_client_is_noticed_by_the_door_itself(run: object) -> None:
    async def test() -> None:
        from tests.servers.native.world import opened

        async with opened() as world:
            peer = await world.connect()
            world.now_ns += int(2.5e9)

            assert await peer.hear(wire.PING, 0) == b""

    assert callable(run)
    run(test())


@native
async def test_a_loop_that_stood_still_closes_nobody(world: World) -> None:
    peer = await world.connect()
    await asyncio.sleep(0.1)
    world.now_ns += int(10e9)

    time.sleep(1.8)  # the next look is late, and what clients said meanwhile may lie unread
    await asyncio.sleep(0.2)

    assert len(world.server.connections) == 1
    await peer.fence()
