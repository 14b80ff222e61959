"""Which node the client is connected to, and what it does when that node is no good."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest
from tests.client.scripted import ScriptedNode, attaches, registers_all, scripted

from waypost import wire
from waypost.client.addresses import Address
from waypost.client.connection import Connection
from waypost.client.identity import Identity
from waypost.client.link import Link
from waypost.errors import Unavailable


class Ear:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[Connection | None] = asyncio.Queue()

    def connected(self, connection: Connection) -> None:
        self.heard.put_nowait(connection)

    def disconnected(self) -> None:
        self.heard.put_nowait(None)


def in_order() -> float:
    """Leaves a shuffle as it was, and makes every wait its longest."""
    return 1 - 1e-9


def linked(
    count: int,
    test: Callable[[Link, Ear, list[ScriptedNode]], Coroutine[Any, Any, None]],
    prepare: Callable[[list[ScriptedNode]], None] = lambda _: None,
    *,
    connect_timeout_s: float = 0.2,
) -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(scripted()) for _ in range(count)]
            prepare(nodes)
            ear = Ear()
            link = Link(
                [node.address for node in nodes],
                ear,
                connect_timeout_s=connect_timeout_s,
                draw=in_order,
                identity=Identity(),
            )
            try:
                await test(link, ear, nodes)
            finally:
                await link.close()

    asyncio.run(run())


def test_a_node_that_accepts_and_never_answers_is_passed_over_within_the_timeout() -> None:
    def first_is_silent(nodes: list[ScriptedNode]) -> None:
        nodes[0].is_silent = True

    async def test(link: Link, ear: Ear, nodes: list[ScriptedNode]) -> None:
        began = asyncio.get_running_loop().time()

        connection = await link.connected()

        assert connection.address == nodes[1].address
        assert asyncio.get_running_loop().time() - began < 2

    linked(2, test, first_is_silent)


def test_a_node_that_falls_silent_is_left_for_one_that_answers_long_before_its_deadline() -> None:
    def patiently(nodes: list[ScriptedNode]) -> None:
        nodes[0].ping_ms, nodes[0].deadline_ms = 20, 60_000

    async def test(link: Link, ear: Ear, nodes: list[ScriptedNode]) -> None:
        first = await ear.heard.get()
        assert first is not None
        asked = asyncio.create_task(first.ask(wire.STATUS))
        await nodes[0].expect(wire.STATUS)

        nodes[0].is_silent = True
        second = await ear.heard.get()

        assert second is not None, "there was a connection all the time"
        assert second.address == nodes[1].address
        assert await first.closed == "it is silent, and another node took over"
        with pytest.raises(Unavailable):
            await asked

    linked(2, test, patiently)


def test_a_node_that_falls_silent_is_kept_if_no_other_one_answers() -> None:
    def patiently(nodes: list[ScriptedNode]) -> None:
        nodes[0].ping_ms, nodes[0].deadline_ms = 20, 60_000
        nodes[1].is_silent = True

    async def test(link: Link, ear: Ear, nodes: list[ScriptedNode]) -> None:
        first = await ear.heard.get()
        assert first is not None

        nodes[0].is_silent = True
        while len(nodes[1].peers) < 2:  # it was asked, in vain, and more than once
            await asyncio.sleep(0.01)
        nodes[0].is_silent = False
        await first.fence()

        assert link.connection is first
        assert ear.heard.empty()

    linked(2, test, patiently, connect_timeout_s=0.05)


def test_a_node_that_falls_silent_is_left_within_its_deadline() -> None:
    def quickly(nodes: list[ScriptedNode]) -> None:
        nodes[0].ping_ms, nodes[0].deadline_ms = 100, 150

    async def test(link: Link, ear: Ear, nodes: list[ScriptedNode]) -> None:
        first = await ear.heard.get()
        assert first is not None
        assert first.address == nodes[0].address

        nodes[0].is_silent = True

        assert await ear.heard.get() is None
        second = await ear.heard.get()
        assert second is not None
        assert second.address == nodes[1].address

    linked(2, test, quickly)


def test_a_node_that_is_going_is_left_before_it_goes() -> None:
    async def test(link: Link, ear: Ear, nodes: list[ScriptedNode]) -> None:
        first = await ear.heard.get()
        assert first is not None
        asked = asyncio.create_task(first.ask(wire.STATUS))
        frame_id, _ = await nodes[0].expect(wire.STATUS)

        nodes[0].peer.send(wire.GOING, 0)
        second = await ear.heard.get()

        assert second is not None, "there was a connection all the time"
        assert second.address == nodes[1].address
        assert link.connection is second
        assert first.is_open, "what is under way is answered before it ends"
        nodes[0].peer.send(wire.STATE, frame_id, "the last answer")
        assert wire.decode_text(await asked) == "the last answer"
        assert await first.closed == "another node took over"

    linked(2, test)


def test_one_address_is_enough_because_each_node_tells_who_the_others_are() -> None:
    async def run() -> None:
        async with scripted() as given, scripted() as other:
            given.members = (str(given.address), str(other.address), "what is this?")
            ear = Ear()
            link = Link(
                [given.address], ear, connect_timeout_s=0.2, draw=in_order, identity=Identity()
            )
            try:
                await link.connected()
                given.is_silent = True
                given.peer.close()
                while (connection := await link.connected()).address == given.address:
                    await asyncio.sleep(0)

                assert connection.address == other.address
            finally:
                await link.close()

    asyncio.run(run())


def test_a_node_that_is_going_is_not_left_for_one_that_knows_of_no_leader_until_it_does() -> None:
    def in_a_cluster(nodes: list[ScriptedNode]) -> None:
        for node in nodes:
            node.members = tuple(str(each.address) for each in nodes)

    async def test(link: Link, ear: Ear, nodes: list[ScriptedNode]) -> None:
        first = await ear.heard.get()
        assert first is not None
        nodes[0].peer.send(wire.GOING, 0)
        await nodes[1].expect(wire.HELLO)
        await first.fence()
        assert link.connection is first

        nodes[1].leader = "n1"

        second = await ear.heard.get()
        assert second is not None
        assert second.address == nodes[1].address

    linked(2, test, in_a_cluster)


def test_a_node_is_not_left_for_itself_under_another_name() -> None:
    def the_same(nodes: list[ScriptedNode]) -> None:
        nodes[1].name = nodes[0].name

    async def test(link: Link, ear: Ear, nodes: list[ScriptedNode]) -> None:
        first = await link.connected()

        other = await link.elsewhere(first)

        assert other.address == nodes[2].address
        other.abort("done")
        await other.closed

    linked(3, test, the_same)


def test_with_one_address_a_node_that_is_going_is_waited_for() -> None:
    async def test(link: Link, ear: Ear, nodes: list[ScriptedNode]) -> None:
        first = await ear.heard.get()
        assert first is not None
        nodes[0].peer.send(wire.GOING, 0)
        await first.fence()
        assert link.connection is first

        nodes[0].peer.close()

        assert await ear.heard.get() is None
        assert (await ear.heard.get()) is not None

    linked(1, test)


def test_a_lost_connection_is_replaced_by_one_to_another_node() -> None:
    async def test(link: Link, ear: Ear, nodes: list[ScriptedNode]) -> None:
        first = await ear.heard.get()
        assert first is not None
        nodes[0].peer.close()

        assert await ear.heard.get() is None
        second = await link.connected()

        assert second.address == nodes[1].address

    linked(2, test)


def test_who_is_not_patient_hears_at_once_that_nobody_answers() -> None:
    async def run() -> None:
        async with scripted() as node:
            dead = node.address
        link = Link([dead], Ear(), connect_timeout_s=0.2, draw=in_order, identity=Identity())
        try:
            for patient in (False, True):  # never connected: there is nothing to be patient for
                with pytest.raises(Unavailable, match=f"{dead}: connection refused"):
                    await link.connected(patient=patient)
        finally:
            await link.close()

    asyncio.run(run())


def test_who_is_patient_waits_for_a_registry_that_was_there_before() -> None:
    async def test(link: Link, ear: Ear, nodes: list[ScriptedNode]) -> None:
        await link.connected()
        nodes[0].answers.pop(wire.HELLO)  # from now on nobody is welcomed
        nodes[0].peer.close()
        await asyncio.sleep(0)
        while True:
            try:
                await link.connected(patient=False)
            except Unavailable:
                break
            await asyncio.sleep(0.01)

        waiting = asyncio.create_task(link.connected())
        nodes[0].answers[wire.HELLO] = ScriptedNode.welcome

        assert (await waiting).is_open

    linked(1, test)


def test_a_node_can_be_left_because_it_cannot_do_its_work() -> None:
    async def test(link: Link, ear: Ear, nodes: list[ScriptedNode]) -> None:
        assert (await link.connected()).address == nodes[0].address
        await ear.heard.get()

        link.leave()

        second = await ear.heard.get()
        assert second is not None
        assert second.address == nodes[1].address

    linked(2, test)


def test_losing_the_registry_and_finding_it_again_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test(link: Link, ear: Ear, nodes: list[ScriptedNode]) -> None:
        await ear.heard.get()
        nodes[0].peer.close()
        await ear.heard.get()
        await ear.heard.get()

    with caplog.at_level(logging.INFO, "waypost"):
        linked(1, test)
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(" at ")[0] for line in said] == [
        "connected to the registry",
        "lost the registry",
        "connected to the registry",
    ]


def test_a_closed_link_connects_no_more() -> None:
    async def test(link: Link, ear: Ear, nodes: list[ScriptedNode]) -> None:
        connection = await link.connected()
        await link.close()

        assert connection.closed.done()
        with pytest.raises(Unavailable, match="closed"):
            await link.connected()

    linked(1, test)


def test_everything_under_way_at_a_close_is_said_first() -> None:
    async def test(link: Link, ear: Ear, nodes: list[ScriptedNode]) -> None:
        nodes[0].answers[wire.WRITE] = registers_all
        nodes[0].answers[wire.ATTACH] = attaches
        connection = await link.connected()
        connection.say(wire.UNWATCH, 5)
        await link.close()

        assert (await nodes[0].expect(wire.UNWATCH))[0] == 5

    linked(1, test)


def test_another_nodes_connection_can_be_had_beside_the_current_one() -> None:
    async def test(link: Link, ear: Ear, nodes: list[ScriptedNode]) -> None:
        current = await link.connected()
        other = await link.elsewhere(current)
        assert other.address == nodes[1].address
        other.abort("done")
        await other.closed

        nodes[1].answers.pop(wire.HELLO)
        with pytest.raises(Unavailable, match="no other node answers"):
            await link.elsewhere(current)
        assert link.connection is current

    linked(2, test)


def test_a_host_name_is_as_good_as_an_address() -> None:
    async def run() -> None:
        async with scripted() as node:
            address = Address("localhost", node.address.port)
            link = Link([address], Ear(), connect_timeout_s=2, draw=in_order, identity=Identity())
            try:
                assert (await link.connected()).address == address
            finally:
                await link.close()

    asyncio.run(run())
