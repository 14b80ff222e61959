"""Registrations stay registered whatever a node does; here it does it on demand."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest
from tests.client.scripted import (
    Peer,
    ScriptedNode,
    attaches,
    attaches_holding,
    registers_all,
    scripted,
)

import waypost
from waypost import wire
from waypost.client.registry import Registry
from waypost.commands import Deregister, Refused, Register
from waypost.errors import Invalid, Overloaded, TimedOut

Test = Callable[[Registry, list[ScriptedNode]], Coroutine[Any, Any, None]]


def providing(test: Test, *, nodes: int = 1, timeout: float = 5.0) -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack:
            started = [await stack.enter_async_context(scripted()) for _ in range(nodes)]
            for node in started:
                node.answers[wire.ATTACH] = attaches
                node.answers[wire.DETACH] = attaches
                node.answers[wire.WRITE] = registers_all
            addresses = ",".join(str(node.address) for node in started)
            async with waypost.connect(addresses, cache_dir=None, timeout=timeout) as registry:
                await test(registry, started)

    asyncio.run(run())


async def next_write(node: ScriptedNode) -> list[Any]:
    return list(wire.decode_write((await node.expect(wire.WRITE))[1]))


def refuse(*outcomes: Refused) -> Callable[[Peer, int, bytes], None]:
    def answer(peer: Peer, frame_id: int, body: bytes) -> None:
        peer.node.answers[wire.WRITE] = registers_all
        peer.send(wire.OUTCOMES, frame_id, wire.Outcomes(1, list(outcomes)))

    return answer


def test_the_session_is_attached_before_anything_is_registered_under_it() -> None:
    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        await registry.register("orders", port=1, ttl=4, grace=1)

        await nodes[0].expect(wire.HELLO)
        kind, _, body = await nodes[0].heard.get()
        assert kind == wire.ATTACH
        attach = wire.decode_attach(body)
        assert (attach.ttl_ms, attach.grace_ms) == (4000, 1000)
        assert len(attach.session) == 22
        (register,) = await next_write(nodes[0])
        assert register.session == attach.session

    providing(test)


def test_who_only_watches_attaches_no_session() -> None:
    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        registry.watch("orders")
        await registry._link.connected()
        await nodes[0].expect(wire.HELLO)

        assert (await nodes[0].heard.get())[0] == wire.WATCH

    providing(test)


def test_registrations_of_one_turn_travel_in_one_write() -> None:
    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        await asyncio.gather(*(registry.register("orders", port=p) for p in range(1, 51)))

        assert len(await next_write(nodes[0])) == 50

    providing(test)


def test_a_reconnect_registers_everything_again_in_one_write_under_the_same_session() -> None:
    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        held = [await registry.register("orders", port=p) for p in (1, 2, 3)]
        session = wire.decode_attach((await nodes[0].expect(wire.ATTACH))[1]).session
        for _ in held:
            await next_write(nodes[0])

        nodes[0].peer.close()

        assert wire.decode_attach((await nodes[0].expect(wire.ATTACH))[1]).session == session
        again = await next_write(nodes[0])
        assert [command.instance for command in again] == [one.instance for one in held]
        assert {command.instance.incarnation for command in again} == {7}

    providing(test)


def test_a_registry_that_still_has_what_was_registered_is_told_nothing_again() -> None:
    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        held = [await registry.register("orders", port=p, id=f"o{p}") for p in (1, 2)]
        for _ in held:
            await next_write(nodes[0])
        nodes[0].answers[wire.ATTACH] = attaches_holding(("orders", "o1", 7), ("orders", "o2", 7))

        nodes[0].peer.close()
        await nodes[0].expect(wire.ATTACH)
        await held[0].set_health("warning")

        (register,) = await next_write(nodes[0])
        assert (register.instance.id, register.health) == ("o1", "warning")
        assert [one.state for one in held] == ["registered", "registered"]

    providing(test)


@pytest.mark.parametrize("lost", [[], [("orders", "o2", 6)]], ids=["gone", "another life of it"])
def test_what_the_registry_lost_meanwhile_is_registered_again_and_nothing_else(
    lost: list[tuple[str, str, int]],
) -> None:
    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        for port in (1, 2):
            await registry.register("orders", port=port, id=f"o{port}")
            await next_write(nodes[0])
        nodes[0].answers[wire.ATTACH] = attaches_holding(("orders", "o1", 7), *lost)

        nodes[0].peer.close()

        (register,) = await next_write(nodes[0])
        assert (register.instance.id, register.instance.incarnation) == ("o2", 7)

    providing(test)


def test_another_registry_is_told_everything_whatever_it_holds() -> None:
    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        await registry.register("orders", port=1, id="kept")
        await registry.register("orders", port=2, id="permanent", ttl=0)
        for _ in range(2):
            await next_write(nodes[0])
        nodes[0].answers[wire.ATTACH] = attaches_holding()

        nodes[0].cluster = "c2"
        nodes[0].peer.close()

        assert [c.instance.id for c in await next_write(nodes[0])] == ["kept", "permanent"]

    providing(test)


def test_a_write_whose_answer_was_lost_is_said_again_elsewhere_as_the_same_write() -> None:
    def break_off(peer: Peer, frame_id: int, body: bytes) -> None:
        peer.close()

    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        connection = await registry._link.connected()
        here = next(node for node in nodes if node.address == connection.address)
        there = next(node for node in nodes if node is not here)
        here.answers[wire.WRITE] = break_off

        registration = await registry.register("orders", port=1)

        assert registration.state == "registered"
        assert await here.expect(wire.WRITE) == await there.expect(wire.WRITE)

    providing(test, nodes=2)


def test_a_write_whose_fate_the_node_does_not_know_is_said_again_as_the_same_write() -> None:
    def timed_out(peer: Peer, frame_id: int, body: bytes) -> None:
        peer.node.answers[wire.WRITE] = registers_all
        peer.fault(frame_id, "timed-out", "the leader was lost")

    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        nodes[0].answers[wire.WRITE] = timed_out

        await registry.register("orders", port=1)

        assert await nodes[0].expect(wire.WRITE) == await nodes[0].expect(wire.WRITE)

    providing(test)


def test_an_answer_from_before_the_session_ended_does_not_count_as_registered() -> None:
    """The registration was carried out, its answer was lost, and then the lease was over."""

    def break_off(peer: Peer, frame_id: int, body: bytes) -> None:
        peer.node.answers[wire.WRITE] = repeats
        peer.close()

    def repeats(peer: Peer, frame_id: int, body: bytes) -> None:
        peer.node.answers[wire.WRITE] = registers_all
        peer.send(wire.OUTCOMES, frame_id, wire.Outcomes(3, [7]))

    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        nodes[0].answers[wire.WRITE] = break_off
        nodes[0].answers[wire.ATTACH] = attaches_holding()
        nodes[0].revision = 9

        registration = await registry.register("orders", port=1)

        assert registration.state == "registered"
        first, again, then = [await nodes[0].expect(wire.WRITE) for _ in range(3)]
        assert first == again
        (register,) = wire.decode_write(then[1])
        assert isinstance(register, Register)
        assert register.instance.incarnation == 7

    providing(test)


def test_a_session_that_was_attached_elsewhere_without_need_is_attached_here_again() -> None:
    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        await registry.register("orders", port=1)
        session = wire.decode_attach((await nodes[0].expect(wire.ATTACH))[1]).session

        nodes[0].peer.send(wire.MOVED, 0, session)

        assert wire.decode_attach((await nodes[0].expect(wire.ATTACH))[1]).session == session

    providing(test)


def test_a_write_that_was_under_way_when_the_connection_broke_is_said_again() -> None:
    def break_off(peer: Peer, frame_id: int, body: bytes) -> None:
        peer.node.answers[wire.WRITE] = registers_all
        peer.close()

    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        nodes[0].answers[wire.WRITE] = break_off

        registration = await registry.register("orders", port=1)

        assert registration.state == "registered"
        assert len(nodes[0].peers) == 2

    providing(test)


def test_a_session_that_the_registry_forgot_is_attached_again() -> None:
    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        registration = await registry.register("orders", port=1)
        await nodes[0].expect(wire.WRITE)
        nodes[0].answers[wire.WRITE] = refuse(Refused("unknown-session", "it ended"))

        await registration.set_health("warning")

        await nodes[0].expect(wire.WRITE)
        await nodes[0].expect(wire.ATTACH)
        (register,) = await next_write(nodes[0])
        assert register.health == "warning"

    providing(test)


def test_a_registration_that_is_superseded_while_away_stands_down_and_the_others_stay() -> None:
    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        first = await registry.register("orders", port=1)
        second = await registry.register("orders", port=2)

        def supersede(peer: Peer, frame_id: int, body: bytes) -> None:
            peer.node.answers[wire.WRITE] = registers_all
            outcomes = wire.Outcomes(9, [Refused("superseded", "a newer life"), 8])
            peer.send(wire.OUTCOMES, frame_id, outcomes)

        nodes[0].answers[wire.WRITE] = supersede
        nodes[0].peer.close()
        error = await first.ended()

        assert isinstance(error, waypost.Superseded)
        assert first.state == "superseded"
        assert second.state == "registered"
        while not nodes[0].heard.empty():
            nodes[0].heard.get_nowait()
        nodes[0].peer.close()
        assert [command.instance.port for command in await next_write(nodes[0])] == [2]

    providing(test)


def test_a_registry_that_cannot_write_now_is_asked_again_until_it_can() -> None:
    def fail_once(peer: Peer, frame_id: int, body: bytes) -> None:
        peer.node.answers[wire.WRITE] = registers_all
        peer.fault(frame_id, "unavailable", "no leader")

    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        nodes[0].answers[wire.WRITE] = fail_once

        registration = await registry.register("orders", port=1)

        assert registration.state == "registered"

    providing(test)


def test_a_refusal_that_lasts_is_raised_with_the_number_of_attempts() -> None:
    def overloaded(peer: Peer, frame_id: int, body: bytes) -> None:
        peer.fault(frame_id, "overloaded", "too many", retry_after=0.05)

    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        nodes[0].answers[wire.WRITE] = overloaded

        with pytest.raises(Overloaded, match=r"too many \(tried \d+ times"):
            await registry.register("orders", port=1)

    providing(test, timeout=0.3)


def test_a_registration_that_was_given_up_does_not_appear_afterwards() -> None:
    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        del nodes[0].answers[wire.WRITE]  # taken, and never answered

        with pytest.raises(TimedOut):
            await registry.register("orders", port=1, id="one")
        nodes[0].answers[wire.WRITE] = registers_all
        nodes[0].peer.close()

        assert await nodes[0].expect(wire.WRITE) == await nodes[0].expect(wire.WRITE)
        assert await next_write(nodes[0]) == [Deregister("orders", "one", 7)]

    providing(test, timeout=0.2)


def test_a_node_that_cannot_write_is_left_for_one_that_can() -> None:
    def no_leader(peer: Peer, frame_id: int, body: bytes) -> None:
        peer.fault(frame_id, "unavailable", "cut off from the majority")

    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        connection = await registry._link.connected()
        here = next(node for node in nodes if node.address == connection.address)
        there = next(node for node in nodes if node is not here)
        here.answers[wire.WRITE] = no_leader

        registration = await registry.register("orders", port=1)

        assert registration.state == "registered"
        assert len(await next_write(there)) == 1

    providing(test, nodes=2)


def test_a_node_that_is_going_hands_the_session_over_before_its_connection_ends() -> None:
    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        await registry.register("orders", port=1)
        here, there = sorted(nodes, key=lambda node: not node.peers)
        session = wire.decode_attach((await here.expect(wire.ATTACH))[1]).session

        here.peer.send(wire.GOING, 0)

        assert wire.decode_attach((await there.expect(wire.ATTACH))[1]).session == session
        (register,) = await next_write(there)
        assert isinstance(register, Register)
        assert register.instance.incarnation == 7

    providing(test, nodes=2)


def test_closing_ends_the_session_before_the_connection() -> None:
    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        await registry.register("orders", port=1)
        session = wire.decode_attach((await nodes[0].expect(wire.ATTACH))[1]).session

        await registry.close()

        assert wire.decode_text((await nodes[0].expect(wire.DETACH))[1]) == session

    providing(test)


def test_leaving_while_no_registry_answers_is_caught_up_with_on_the_next_connection() -> None:
    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        await registry.register("orders", port=2, id="stays")
        async with registry.register("orders", port=1, id="goes"):
            nodes[0].answers.pop(wire.HELLO)
            nodes[0].peer.close()
            while registry._link.connection is not None:
                await asyncio.sleep(0)

        nodes[0].answers[wire.HELLO] = ScriptedNode.welcome
        for _ in range(2):
            await next_write(nodes[0])  # as they were registered
        commands = await next_write(nodes[0]) + await next_write(nodes[0])
        assert commands[0] == Deregister("orders", "goes", 7)
        assert [command.instance.id for command in commands[1:]] == ["stays"]

    providing(test)


def test_a_shorter_lease_is_told_at_once_to_the_session_that_is_open() -> None:
    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        leases = []
        for ttl, grace in ((10, 2), (20, 3), (5, 2), (0, 0), (7, 0)):
            await registry.register("orders", port=1, ttl=ttl, grace=grace)
        while not nodes[0].heard.empty():
            kind, _, body = nodes[0].heard.get_nowait()
            if kind == wire.ATTACH:
                attach = wire.decode_attach(body)
                leases.append((attach.ttl_ms, attach.grace_ms))

        assert leases == [(10_000, 2000), (5000, 2000), (5000, 0)]

    providing(test)


def test_a_permanent_instance_needs_no_session() -> None:
    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        await registry.register("orders", port=1, ttl=0)

        await nodes[0].expect(wire.HELLO)
        kind, _, body = await nodes[0].heard.get()
        assert kind == wire.WRITE
        assert wire.decode_write(body)[0].session == ""  # type: ignore[union-attr]

    providing(test)


def test_one_that_the_node_cannot_take_does_not_keep_the_others_from_being_registered() -> None:
    def refuses_port_2(peer: Peer, frame_id: int, body: bytes) -> None:
        commands = wire.decode_write(body)
        if any(isinstance(c, Register) and c.instance.port == 2 for c in commands):
            peer.fault(frame_id, "invalid", "port 2 is not for you", field="port")
        else:
            registers_all(peer, frame_id, body)

    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        nodes[0].answers[wire.WRITE] = refuses_port_2

        registered = await asyncio.gather(
            *(registry.register("orders", port=p) for p in (1, 2, 3, 4)), return_exceptions=True
        )

        assert [type(one) for one in registered] == [
            waypost.Registration,
            Invalid,
            waypost.Registration,
            waypost.Registration,
        ]
        assert not registry._registrar._is_careful, "and then it is back to one write for all"

    providing(test)


def test_a_node_that_does_not_know_the_session_here_is_told_of_it_again() -> None:
    def wrong_session(peer: Peer, frame_id: int, body: bytes) -> None:
        peer.node.answers[wire.WRITE] = registers_all
        peer.fault(frame_id, "invalid", "not attached to this connection", field="session")

    async def test(registry: Registry, nodes: list[ScriptedNode]) -> None:
        nodes[0].answers[wire.WRITE] = wrong_session

        registration = await registry.register("orders", port=1)

        assert registration.state == "registered"
        for _ in range(2):
            await nodes[0].expect(wire.ATTACH)

    providing(test)
