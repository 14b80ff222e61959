"""Requests are asked again, here or elsewhere, until they are answered or it is pointless."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest
from tests.client.scripted import Peer, ScriptedNode, registers_all, scripted

import waypost
from waypost import wire
from waypost.client.registry import Registry
from waypost.client.retry import TOKENS_MAX
from waypost.errors import Invalid, Overloaded, TimedOut, Unavailable

Test = Callable[[Registry, ScriptedNode, list[ScriptedNode]], Coroutine[Any, Any, None]]


def asking(test: Test, *, others: int = 0, timeout: float = 5.0) -> None:
    """Run a test with the node that the client is connected to, and those that it is not."""

    async def run() -> None:
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(scripted()) for _ in range(others + 1)]
            addresses = ",".join(str(node.address) for node in nodes)
            async with waypost.connect(addresses, cache_dir=None, timeout=timeout) as registry:
                connection = await registry._link.connected()
                here = next(node for node in nodes if node.address == connection.address)
                await test(registry, here, [node for node in nodes if node is not here])

    asyncio.run(run())


def no_leader(peer: Peer, frame_id: int, body: bytes) -> None:
    peer.fault(frame_id, "unavailable", "no leader")


def resolved(peer: Peer, frame_id: int, body: bytes) -> None:
    peer.send(wire.RESOLVED, frame_id, wire.Resolved(3, 0, "follower", False, []))


def test_a_read_that_one_node_cannot_answer_is_asked_elsewhere() -> None:
    async def test(registry: Registry, here: ScriptedNode, others: list[ScriptedNode]) -> None:
        connection = registry._link.connection
        here.answers[wire.RESOLVE] = no_leader
        others[0].answers[wire.RESOLVE] = resolved

        answer = await registry.resolve("orders")

        assert (answer.revision, answer.source) == (3, "follower")
        assert registry._link.connection is connection, "the session stays where it is"
        assert len(others[0].peers) == 1

    asking(test, others=1)


def test_after_elsewhere_it_is_the_own_nodes_turn_again() -> None:
    def recovers(peer: Peer, frame_id: int, body: bytes) -> None:
        peer.node.answers[wire.RESOLVE] = resolved
        no_leader(peer, frame_id, body)

    async def test(registry: Registry, here: ScriptedNode, others: list[ScriptedNode]) -> None:
        here.answers[wire.RESOLVE] = recovers
        others[0].answers[wire.RESOLVE] = no_leader

        assert (await registry.resolve("orders")).revision == 3

    asking(test, others=1)


def test_a_read_whose_node_dies_is_asked_at_the_next_one() -> None:
    def dies(peer: Peer, frame_id: int, body: bytes) -> None:
        peer.node.is_silent = True  # and never answers anybody again
        peer.close()

    async def test(registry: Registry, here: ScriptedNode, others: list[ScriptedNode]) -> None:
        here.answers[wire.RESOLVE] = dies
        others[0].answers[wire.RESOLVE] = resolved

        assert (await registry.resolve("orders")).revision == 3
        assert (await registry._link.connected()).address == others[0].address

    asking(test, others=1)


def test_all_reads_that_a_lost_connection_owed_are_asked_again_however_many() -> None:
    many = 10 * int(TOKENS_MAX)

    async def test(registry: Registry, here: ScriptedNode, others: list[ScriptedNode]) -> None:
        others[0].answers[wire.RESOLVE] = resolved
        asked = [asyncio.create_task(registry.resolve("orders")) for _ in range(many)]
        for _ in range(many):
            await here.expect(wire.RESOLVE)

        here.is_silent = True  # and never answers anybody again
        here.peer.close()

        assert {answer.revision for answer in await asyncio.gather(*asked)} == {3}

    asking(test, others=1)


def test_a_write_that_is_safe_to_repeat_is_repeated() -> None:
    def break_off(peer: Peer, frame_id: int, body: bytes) -> None:
        peer.node.answers[wire.WRITE] = registers_all
        peer.close()

    async def test(registry: Registry, here: ScriptedNode, others: list[ScriptedNode]) -> None:
        here.answers[wire.WRITE] = break_off

        await registry.deregister("orders", "o1")

        assert len(here.peers) == 2

    asking(test)


def test_what_was_tried_is_told() -> None:
    async def test(registry: Registry, here: ScriptedNode, others: list[ScriptedNode]) -> None:
        here.answers[wire.RESOLVE] = no_leader

        with pytest.raises(Unavailable, match=r"no leader \(tried \d+ times: .*: no leader\)"):
            await registry.resolve("orders")

    asking(test, timeout=0.3)


def test_a_request_that_is_never_answered_times_out() -> None:
    async def test(registry: Registry, here: ScriptedNode, others: list[ScriptedNode]) -> None:
        with pytest.raises(TimedOut, match=r"no answer within 0\.2 s"):
            await registry.status()

    asking(test, timeout=0.2)


def test_a_registry_that_asks_for_more_time_than_there_is_is_not_waited_for() -> None:
    def overloaded(peer: Peer, frame_id: int, body: bytes) -> None:
        peer.fault(frame_id, "overloaded", "too many", retry_after=30)

    async def test(registry: Registry, here: ScriptedNode, others: list[ScriptedNode]) -> None:
        here.answers[wire.LIST] = overloaded
        began = asyncio.get_running_loop().time()

        with pytest.raises(Overloaded) as caught:
            await registry.services()

        assert caught.value.retry_after == 30
        assert asyncio.get_running_loop().time() - began < 4

    asking(test)


def test_what_is_wrong_is_not_asked_twice() -> None:
    def invalid(peer: Peer, frame_id: int, body: bytes) -> None:
        peer.fault(frame_id, "invalid", "no", field="service")

    async def test(registry: Registry, here: ScriptedNode, others: list[ScriptedNode]) -> None:
        here.answers[wire.RESOLVE] = invalid

        with pytest.raises(Invalid):
            await registry.resolve("orders")
        await here.expect(wire.RESOLVE)
        assert here.heard.empty()

    asking(test)
