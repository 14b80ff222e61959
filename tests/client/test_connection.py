import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.client.scripted import Peer, ScriptedNode, scripted

from waypost import wire
from waypost.client.addresses import Address
from waypost.client.connection import UNDER_WAY_MAX, Connection, open_connection
from waypost.client.identity import Identity
from waypost.errors import (
    Invalid,
    Overloaded,
    Superseded,
    Unavailable,
    WaypostError,
)


def talking(
    test: Callable[[ScriptedNode, Connection], Awaitable[None]],
    prepare: Callable[[ScriptedNode], None] = lambda _: None,
) -> None:
    async def run() -> None:
        async with scripted() as node:
            prepare(node)
            connection = await open_connection(node.address, 1.0, Identity())
            try:
                await test(node, connection)
            finally:
                connection.abort("the test is over")
                await connection.closed

    asyncio.run(run())


def test_it_says_hello_and_is_welcomed() -> None:
    async def test(node: ScriptedNode, connection: Connection) -> None:
        _, body = await node.expect(wire.HELLO)

        assert wire.decode_hello(body).version == wire.PROTOCOL_VERSION
        assert wire.decode_hello(body).agent.startswith("waypost-python/")
        assert connection.welcome.cluster == "c1"
        assert connection.local_host == "127.0.0.1"

    talking(test)


def test_it_says_whose_connection_it_is_and_no_two_frames_of_a_client_have_the_same_id() -> None:
    async def run() -> None:
        async with scripted() as node:
            identity = Identity()
            connections = [await open_connection(node.address, 1.0, identity) for _ in range(2)]
            said = [await node.expect(wire.HELLO) for _ in connections]

            assert {wire.decode_hello(body).client for _, body in said} == {identity.client}
            assert len({frame_id for frame_id, _ in said}) == 2
            for connection in connections:
                connection.abort("the test is over")
                await connection.closed

    asyncio.run(run())


def test_answers_find_their_requests_in_whatever_order_they_come() -> None:
    async def test(node: ScriptedNode, connection: Connection) -> None:
        asked = [asyncio.create_task(connection.ask(wire.STATUS)) for _ in range(3)]
        ids = [(await node.expect(wire.STATUS))[0] for _ in range(3)]

        for number in (2, 0, 1):
            node.peer.send(wire.STATE, ids[number], f"answer {number}")

        assert [wire.decode_text(await task) for task in asked] == [
            "answer 0",
            "answer 1",
            "answer 2",
        ]
        assert 0 not in ids

    talking(test)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("invalid", Invalid),
        ("overloaded", Overloaded),
        ("superseded", Superseded),
        ("unavailable", Unavailable),
        ("from-the-future", WaypostError),
    ],
)
def test_a_fault_is_raised_as_the_error_with_its_code(code: str, kind: type) -> None:
    def refuse(peer: Peer, frame_id: int, body: bytes) -> None:
        peer.fault(frame_id, code, "because", field="port", retry_after=2.5)

    async def test(node: ScriptedNode, connection: Connection) -> None:
        node.answers[wire.STATUS] = refuse
        with pytest.raises(WaypostError, match="because") as caught:
            await connection.ask(wire.STATUS)

        assert type(caught.value) is kind
        assert getattr(caught.value, "field", "port") == "port"
        assert getattr(caught.value, "retry_after", 2.5) == 2.5

    talking(test)


def test_a_ping_is_answered_at_once_with_its_id() -> None:
    async def test(node: ScriptedNode, connection: Connection) -> None:
        node.peer.send(wire.PING, 77)

        frame_id, _ = await node.expect(wire.PONG)

        assert frame_id == 77

    talking(test)


def test_it_pings_when_nothing_else_is_said() -> None:
    def quickly(node: ScriptedNode) -> None:
        node.ping_ms, node.deadline_ms = 20, 10_000

    async def test(node: ScriptedNode, connection: Connection) -> None:
        for _ in range(3):
            await node.pings.acquire()

        assert connection.is_open

    talking(test, quickly)


def test_it_ends_when_nothing_was_heard_for_the_deadline_and_whoever_waits_hears_why() -> None:
    def quickly(node: ScriptedNode) -> None:
        node.ping_ms, node.deadline_ms = 20, 100

    async def test(node: ScriptedNode, connection: Connection) -> None:
        node.is_silent = True

        with pytest.raises(Unavailable, match="nothing heard"):
            await connection.ask(wire.STATUS)
        with pytest.raises(Unavailable, match="nothing heard"):
            await connection.ask(wire.STATUS)

    talking(test, quickly)


def test_a_broken_connection_fails_all_that_is_under_way() -> None:
    async def test(node: ScriptedNode, connection: Connection) -> None:
        waiting = [
            asyncio.create_task(connection.ask(wire.STATUS)),
            asyncio.create_task(connection.ask(wire.LIST)),
        ]
        await node.expect(wire.STATUS)

        node.peer.close()
        errors = await asyncio.gather(*waiting, return_exceptions=True)

        assert [type(error) for error in errors] == [Unavailable, Unavailable]
        assert str(node.address) in str(errors[0])

    talking(test)


def test_what_is_under_way_is_bounded_and_the_rest_waits() -> None:
    async def test(node: ScriptedNode, connection: Connection) -> None:
        asked = [asyncio.create_task(connection.ask(wire.STATUS)) for _ in range(UNDER_WAY_MAX + 5)]
        for _ in range(UNDER_WAY_MAX):
            frame_id, _ = await node.expect(wire.STATUS)
        await connection_is_idle(connection)
        assert node.heard.empty()

        node.peer.send(wire.STATE, frame_id, "done")
        await node.expect(wire.STATUS)

        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

    talking(test)


async def connection_is_idle(connection: Connection) -> None:
    """A round trip that does not queue behind the others: all that was sent has been heard."""
    await connection.request(wire.PING)


def test_an_answer_that_comes_too_late_is_ignored() -> None:
    async def test(node: ScriptedNode, connection: Connection) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await connection.ask(wire.STATUS)
        frame_id, _ = await node.expect(wire.STATUS)

        node.peer.send(wire.STATE, frame_id, "late")
        await connection.fence()

        assert connection.is_open

    talking(test)


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 64])
def test_a_port_that_speaks_something_else_is_unavailable_and_says_so(garbage: bytes) -> None:
    async def run() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(garbage)
            await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
            with pytest.raises(Unavailable, match="does not speak the protocol"):
                await open_connection(address, 1.0, Identity())

    asyncio.run(run())


def test_a_connection_that_the_node_ends_says_why_in_its_words() -> None:
    async def test(node: ScriptedNode, connection: Connection) -> None:
        node.peer.send(wire.FAULT, 0, wire.Fault("unknown-session", "its lease is over"))

        assert await connection.closed == "closed by the registry: its lease is over"

    talking(test)


def test_a_node_that_accepts_and_never_answers_is_given_up_in_time() -> None:
    async def run() -> None:
        async with scripted() as node:
            node.is_silent = True
            with pytest.raises(Unavailable, match="not welcomed within"):
                await open_connection(node.address, 0.1, Identity())

    asyncio.run(run())


def test_a_port_where_nobody_listens_is_refused_in_plain_words() -> None:
    async def run() -> None:
        async with scripted() as node:
            address = node.address
        with pytest.raises(Unavailable, match=r"^connection refused$"):
            await open_connection(address, 1.0, Identity())

    asyncio.run(run())


def test_a_host_that_does_not_exist_is_unavailable() -> None:
    async def run() -> None:
        for host in ("does-not-exist.invalid", "x" * 100 + ".invalid"):
            with pytest.raises(Unavailable):
                await open_connection(Address(host, 1), 5.0, Identity())

    asyncio.run(run())


def test_a_write_is_answered_to_whoever_takes_the_answers_and_once() -> None:
    def answers_twice(peer: Peer, frame_id: int, body: bytes) -> None:
        for _ in range(2):
            peer.send(wire.OUTCOMES, frame_id, wire.Outcomes(1, [1]))

    async def test(node: ScriptedNode, connection: Connection) -> None:
        node.answers[wire.WRITE] = answers_twice
        told: list[tuple[int, int]] = []
        connection.on_written = lambda _, kind, write_id, body: told.append((kind, write_id))

        write_id = connection.next_id()
        connection.say_write(write_id, b"")
        await connection.fence()

        assert told == [(wire.OUTCOMES, write_id)]

    talking(test)


def test_a_retired_connection_waits_for_the_answers_to_its_writes() -> None:
    async def test(node: ScriptedNode, connection: Connection) -> None:
        connection.say_write(connection.next_id(), b"")
        frame_id, _ = await node.expect(wire.WRITE)
        connection.retire(10)
        assert connection.is_open

        node.peer.send(wire.OUTCOMES, frame_id, wire.Outcomes(1, []))

        assert await connection.closed == "another node took over"

    talking(test)


def test_a_retired_connection_ends_once_it_has_its_answers() -> None:
    async def test(node: ScriptedNode, connection: Connection) -> None:
        asked = asyncio.create_task(connection.ask(wire.STATUS))
        frame_id, _ = await node.expect(wire.STATUS)

        connection.retire(10)
        assert connection.is_open
        node.peer.send(wire.STATE, frame_id, "last")

        assert wire.decode_text(await asked) == "last"
        assert await connection.closed == "another node took over"

    talking(test)
