"""What becomes of writes when no answers come: here a node does on demand what that takes."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest
from tests.client.scripted import Peer, ScriptedNode, attaches, registers_all, scripted

import waypost
from waypost import wire
from waypost.catalog.origins import WRITES_PER_CLIENT
from waypost.client.registry import Registry
from waypost.client.retry import Setbacks
from waypost.commands import Deregister, Refused
from waypost.errors import Overloaded, ProtocolViolation, TimedOut, Unavailable, UnknownInstance

Test = Callable[[Registry, ScriptedNode, list[ScriptedNode]], Coroutine[Any, Any, None]]


def writing(test: Test, *, others: int = 0, timeout: float = 5.0) -> None:
    """Run a test with the node that the client is connected to, and those that it is not."""

    async def run() -> None:
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(scripted()) for _ in range(others + 1)]
            for node in nodes:
                node.answers[wire.WRITE] = registers_all
                node.answers[wire.ATTACH] = node.answers[wire.DETACH] = attaches
            addresses = ",".join(str(node.address) for node in nodes)
            async with waypost.connect(addresses, cache_dir=None, timeout=timeout) as registry:
                connection = await registry._link.connected()
                here = next(node for node in nodes if node.address == connection.address)
                await test(registry, here, [node for node in nodes if node is not here])

    asyncio.run(run())


def once(answer: Callable[[Peer, int], None]) -> Callable[[Peer, int, bytes], None]:
    """Answer so the first time, and then as a node does that refuses nothing."""

    def answers(peer: Peer, frame_id: int, body: bytes) -> None:
        peer.node.answers[wire.WRITE] = registers_all
        answer(peer, frame_id)

    return answers


def always(code: str, message: str, **more: float) -> Callable[[Peer, int, bytes], None]:
    return lambda peer, frame_id, body: peer.fault(frame_id, code, message, **more)


def test_writes_of_one_turn_travel_in_one_frame_and_are_answered_by_position() -> None:
    def mixed(peer: Peer, frame_id: int, body: bytes) -> None:
        refused = Refused("unknown-instance", "not there")
        peer.send(wire.OUTCOMES, frame_id, wire.Outcomes(9, [0, refused, 0]))

    async def test(registry: Registry, here: ScriptedNode, others: list[ScriptedNode]) -> None:
        here.answers[wire.WRITE] = mixed

        done = await asyncio.gather(
            *(registry.deregister("orders", f"o{n}") for n in range(3)), return_exceptions=True
        )

        assert [type(each) for each in done] == [type(None), UnknownInstance, type(None)]
        _, body = await here.expect(wire.WRITE)
        assert wire.decode_write(body) == [Deregister("orders", f"o{n}") for n in range(3)]

    writing(test)


@pytest.mark.parametrize(
    "answer",
    [
        lambda peer, frame_id: peer.close(),
        lambda peer, frame_id: peer.fault(frame_id, "timed-out", "the leader was lost"),
        lambda peer, frame_id: peer.fault(frame_id, "unavailable", "no leader"),
        lambda peer, frame_id: peer.fault(frame_id, "overloaded", "busy", retry_after=0.01),
    ],
    ids=["lost", "timed out", "refused", "overloaded"],
)
def test_what_was_not_answered_is_said_again_as_the_same_write(
    answer: Callable[[Peer, int], None],
) -> None:
    async def test(registry: Registry, here: ScriptedNode, others: list[ScriptedNode]) -> None:
        here.answers[wire.WRITE] = once(answer)

        await registry.deregister("orders", "o1")

        assert await here.expect(wire.WRITE) == await here.expect(wire.WRITE)

    writing(test)


def test_a_write_is_said_again_at_another_node_under_the_same_name_and_id() -> None:
    async def test(registry: Registry, here: ScriptedNode, others: list[ScriptedNode]) -> None:
        here.answers[wire.WRITE] = lambda peer, frame_id, body: peer.close()
        here_hello = wire.decode_hello((await here.expect(wire.HELLO))[1])

        await registry.deregister("orders", "o1")

        there_hello = wire.decode_hello((await others[0].expect(wire.HELLO))[1])
        assert here_hello.client == there_hello.client != ""
        assert await here.expect(wire.WRITE) == await others[0].expect(wire.WRITE)

    writing(test, others=1)


def test_each_client_has_a_name_of_its_own() -> None:
    async def test(registry: Registry, here: ScriptedNode, others: list[ScriptedNode]) -> None:
        async with waypost.connect(str(here.address), cache_dir=None) as other:
            await other._link.connected()
            hellos = [wire.decode_hello((await here.expect(wire.HELLO))[1]) for _ in range(2)]

            assert hellos[0].client != hellos[1].client

    writing(test)


def test_a_node_that_goes_on_failing_is_left_and_the_write_goes_along() -> None:
    async def test(registry: Registry, here: ScriptedNode, others: list[ScriptedNode]) -> None:
        here.answers[wire.WRITE] = always("unavailable", "cut off")

        await registry.deregister("orders", "o1")

        assert (await registry._link.connected()).address == others[0].address
        assert await here.expect(wire.WRITE) == await others[0].expect(wire.WRITE)

    writing(test, others=1)


def test_a_write_that_was_certainly_refused_is_raised_as_that() -> None:
    async def test(registry: Registry, here: ScriptedNode, others: list[ScriptedNode]) -> None:
        here.answers[wire.WRITE] = always("unavailable", "no leader")
        # It is said after 0, 74 and 198 ms, and would be after 422: at 400 none is under way.
        registry._writing.again.setbacks = Setbacks(lambda: 1 - 1e-9)
        with pytest.raises(Unavailable, match=r"no leader \(tried \d+ times") as caught:
            await registry.deregister("orders", "o1")
        assert type(caught.value) is Unavailable

        here.answers[wire.WRITE] = always("overloaded", "busy", retry_after=30)
        with pytest.raises(Overloaded) as overloaded:
            await registry.deregister("orders", "o1")
        assert overloaded.value.retry_after == 30

    writing(test, timeout=0.4)


def test_a_write_that_may_have_been_carried_out_times_out_whatever_is_said_later() -> None:
    async def test(registry: Registry, here: ScriptedNode, others: list[ScriptedNode]) -> None:
        here.answers[wire.WRITE] = lambda peer, frame_id, body: (
            peer.node.answers.update({wire.WRITE: always("unavailable", "no leader")})
            or peer.close()
        )

        with pytest.raises(TimedOut, match="may still be carried out"):
            await registry.deregister("orders", "o1")

    writing(test, timeout=0.4)


def test_a_write_that_nobody_waits_for_is_not_said_again() -> None:
    async def test(registry: Registry, here: ScriptedNode, others: list[ScriptedNode]) -> None:
        del here.answers[wire.WRITE]
        with pytest.raises(TimedOut):
            await registry.deregister("orders", "given-up")
        here.answers[wire.WRITE] = registers_all
        here.peer.close()

        await registry.deregister("orders", "wanted")

        said = [wire.decode_write((await here.expect(wire.WRITE))[1]) for _ in range(2)]
        assert said == [[Deregister("orders", "given-up")], [Deregister("orders", "wanted")]]
        assert here.heard.empty()

    writing(test, timeout=0.2)


def test_no_more_writes_are_under_way_than_the_registry_remembers() -> None:
    async def test(registry: Registry, here: ScriptedNode, others: list[ScriptedNode]) -> None:
        del here.answers[wire.WRITE]
        asked = []
        for n in range(WRITES_PER_CLIENT + 5):
            asked.append(asyncio.create_task(registry.deregister("orders", f"o{n}")))
            for _ in range(4):
                await asyncio.sleep(0)
        ids = [(await here.expect(wire.WRITE))[0] for _ in range(WRITES_PER_CLIENT)]
        connection = registry._link.connection
        assert connection is not None
        await connection.fence()
        assert here.heard.empty()

        here.answers[wire.WRITE] = registers_all
        for frame_id in ids:
            here.peer.send(wire.OUTCOMES, frame_id, wire.Outcomes(1, [0]))
        await asyncio.gather(*asked)

        rest = wire.decode_write((await here.expect(wire.WRITE))[1])
        assert len(rest) == 5, "what waited travels together"

    writing(test)


def test_outcomes_that_do_not_fit_their_write_end_the_connection() -> None:
    async def test(registry: Registry, here: ScriptedNode, others: list[ScriptedNode]) -> None:
        connection = await registry._link.connected()
        here.answers[wire.WRITE] = once(
            lambda peer, frame_id: peer.send(wire.OUTCOMES, frame_id, wire.Outcomes(1, []))
        )

        with pytest.raises(ProtocolViolation):
            await registry.deregister("orders", "o1")

        assert "protocol" in await connection.closed

    writing(test)


def test_a_client_that_is_closed_leaves_no_write_waiting() -> None:
    async def test(registry: Registry, here: ScriptedNode, others: list[ScriptedNode]) -> None:
        del here.answers[wire.WRITE]
        asked = asyncio.create_task(registry.deregister("orders", "o1"))
        await here.expect(wire.WRITE)

        await registry.close()

        with pytest.raises(Unavailable, match="closed"):
            await asked

    writing(test)


def test_a_write_is_not_forgotten_between_the_end_of_its_time_and_the_verdict() -> None:
    async def test(registry: Registry, here: ScriptedNode, others: list[ScriptedNode]) -> None:
        here.answers[wire.WRITE] = lambda peer, frame_id, body: None
        writing = registry._writing
        loop = asyncio.get_running_loop()
        at = loop.time() + 0.2

        def refused_ones_are_due() -> None:
            # In the turn in which the time is up, before the one who waited runs again.
            loop.call_soon(writing._say_refused)

        loop.call_at(at, refused_ones_are_due)
        with pytest.raises(TimedOut, match="may still be carried out"):
            await writing.write(Deregister("orders", "o1"), at - loop.time())

    for _ in range(5):
        writing(test)
