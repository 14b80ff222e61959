"""Sessions: who keeps an instance registered, and what happens when they fall silent."""

import contextlib

from tests.servers.native.peer import refusal
from tests.servers.native.world import World, native, until

from waypost import wire
from waypost.commands import Register
from waypost.model import TTL_MS_MAX, Instance, resolvable

ORDERS = Instance("orders", "o-1", "10.0.0.1", 8080)


def usable(world: World) -> list[str]:
    records = world.node.catalog.service("orders") or {}
    return sorted(r.instance.id for r in resolvable(records.values()) if not r.suspect)


@native
async def test_a_session_must_have_a_lease_and_a_grace_within_it(world: World) -> None:
    peer = await world.connect()

    for ttl_ms, grace_ms, field in [
        (0, 0, "grace"),
        (499, 0, "ttl"),
        (TTL_MS_MAX + 1, 0, "ttl"),
        (1_000, 1_001, "grace"),
        (1_000, -1, "grace"),
    ]:
        asked = peer.ask(wire.ATTACH, wire.AttachSession("s", ttl_ms, grace_ms))
        assert (await peer.fault(asked)).field == field
    assert world.node.revision == 0


@native
async def test_a_session_has_a_name_that_is_neither_empty_nor_long_nor_a_lease_s(
    world: World,
) -> None:
    peer = await world.connect()

    for session in ("", "s" * (wire.SESSION_CHARS_MAX + 1), "lease:orders/o-1"):
        asked = peer.ask(wire.ATTACH, wire.AttachSession(session, 1_000, 0))
        assert (await peer.fault(asked)).field == "session"


@native
async def test_a_connection_holds_one_session(world: World) -> None:
    peer = await world.connect()
    await peer.attach("mine")

    asked = peer.ask(wire.ATTACH, wire.AttachSession("another", 1_000, 0))

    assert (await peer.fault(asked)).field == "session"


@native
async def test_a_second_session_is_refused_while_the_first_is_being_attached(
    world: World,
) -> None:
    peer = await world.connect()

    peer.say(wire.ATTACH, 7, wire.AttachSession("mine", 1_000, 0))
    peer.say(wire.ATTACH, 8, wire.AttachSession("another", 1_000, 0))

    assert (await peer.fault(8)).field == "session"
    await peer.hear(wire.OUTCOMES, 7)


@native
async def test_a_session_attached_again_on_its_connection_has_the_new_lease(world: World) -> None:
    peer = await world.connect()
    first = await peer.attach("s", ttl_ms=3_000)
    await peer.register("orders", "o-1", "s")

    assert await peer.attach("s", ttl_ms=9_000) > first

    await world.advance(8)
    assert usable(world) == ["o-1"]
    await world.advance(1)
    assert usable(world) == []


@native
async def test_nobody_registers_for_a_session_of_another_connection(world: World) -> None:
    owner, stranger = await world.connect(), await world.connect()
    await owner.attach("mine")

    asked = stranger.ask(wire.WRITE, [Register(ORDERS, "mine")])

    fault = await stranger.fault(asked)
    assert (fault.code, fault.field) == ("invalid", "session")
    assert world.find("orders", "o-1") is None


@native
async def test_nobody_detaches_a_session_of_another_connection(world: World) -> None:
    owner, stranger = await world.connect(), await world.connect()
    await owner.attach("mine")
    await owner.register("orders", "o-1", "mine")

    asked = stranger.ask(wire.DETACH, "mine")

    assert (await stranger.fault(asked)).field == "session"
    assert usable(world) == ["o-1"]


@native
async def test_what_a_connection_registers_without_a_session_outlives_it(world: World) -> None:
    peer = await world.connect()
    await peer.register("orders", "o-1")

    peer.close()
    await until(lambda: not world.server.connections)
    await world.advance(3_600)

    assert usable(world) == ["o-1"]


@native
async def test_a_clean_detach_deregisters_at_once(world: World) -> None:
    peer = await world.connect()
    await peer.attach("s")
    await peer.register("orders", "o-1", "s")

    asked = peer.ask(wire.DETACH, "s")

    await peer.hear(wire.OUTCOMES, asked)
    assert world.find("orders", "o-1") is None
    assert len(world.node.sessions) == 0


@native
async def test_a_connection_may_attach_another_session_after_a_detach(world: World) -> None:
    peer = await world.connect()
    await peer.attach("first")
    await peer.hear(wire.OUTCOMES, peer.ask(wire.DETACH, "first"))

    await peer.attach("second")

    await peer.register("orders", "o-1", "second")


@native
async def test_a_broken_connection_is_suspect_at_once_and_gone_after_its_grace(
    world: World,
) -> None:
    peer, other = await world.connect(), await world.connect()
    await peer.attach("s", grace_ms=2_000)
    await peer.register("orders", "o-1", "s")
    await other.register("orders", "o-2")

    peer.abort()
    await until(lambda: world.record("orders", "o-1").suspect)
    assert [r.instance.id for r in (await other.resolve("orders")).records] == ["o-2"]

    await world.advance(1.9)
    assert world.record("orders", "o-1").suspect
    await world.advance(0.1)
    assert world.find("orders", "o-1") is None


@native
async def test_the_last_instance_of_a_service_is_resolved_while_it_is_suspect(
    world: World,
) -> None:
    peer, other = await world.connect(), await world.connect()
    await peer.attach("s", grace_ms=2_000)
    await peer.register("orders", "o-1", "s")

    peer.abort()
    await until(lambda: world.record("orders", "o-1").suspect)

    records = (await other.resolve("orders")).records
    assert [(r.instance.id, r.suspect, r.why) for r in records] == [
        ("o-1", True, "connection lost")
    ]


@native
async def test_without_a_grace_a_broken_connection_is_gone_at_once(world: World) -> None:
    peer = await world.connect()
    await peer.attach("s", grace_ms=0)
    await peer.register("orders", "o-1", "s")

    peer.abort()

    await until(lambda: world.find("orders", "o-1") is None)
    assert world.now_ns == 0


@native
async def test_a_session_that_attaches_within_its_grace_was_never_gone(world: World) -> None:
    peer, again = await world.connect(), await world.connect()
    await peer.attach("s", grace_ms=2_000)
    life = await peer.register("orders", "o-1", "s")
    peer.abort()
    await until(lambda: world.record("orders", "o-1").suspect)
    await world.advance(1.9)

    await again.attach("s", grace_ms=2_000)
    await world.advance(1)

    record = world.record("orders", "o-1")
    assert (record.suspect, record.why, record.instance.incarnation) == (False, "", life)


@native
async def test_an_attach_tells_what_the_session_holds(world: World) -> None:
    old, new = await world.connect(), await world.connect()
    await old.attach("s")
    life = await old.register("orders", "o-1", "s")
    await old.register("orders", "o-2")

    asked = new.ask(wire.ATTACH, wire.AttachSession("s", 9_000, 2_000))
    attached = wire.decode_attached(await new.hear(wire.OUTCOMES, asked))

    assert attached.holds == [wire.Holding("orders", "o-1", life)]
    assert attached.revision == world.node.revision


@native
async def test_a_session_moves_to_the_connection_that_attached_it_last(world: World) -> None:
    old, new = await world.connect(), await world.connect()
    await old.attach("s")
    await old.register("orders", "o-1", "s")

    await new.attach("s")

    assert wire.decode_text(await old.hear(wire.MOVED, 0)) == "s"
    asked = old.ask(wire.WRITE, [Register(ORDERS, "s")])
    assert (await old.fault(asked)).field == "session"
    asked = old.ask(wire.DETACH, "s")
    assert (await old.fault(asked)).field == "session"
    old.abort()
    await until(lambda: world.node.connections == 1)
    await world.idle()
    assert not world.record("orders", "o-1").suspect


@native
async def test_a_connection_that_breaks_while_it_attaches_leaves_nothing_behind(
    world: World,
) -> None:
    peer = await world.connect()
    world.gate.hold()

    peer.say(wire.ATTACH, 7, wire.AttachSession("s", 9_000, 2_000))
    peer.say(wire.WRITE, 8, [Register(ORDERS, "s")])
    await peer.fence()
    peer.close()
    await until(lambda: not world.server.connections)
    world.gate.release()
    await until(lambda: world.find("orders", "o-1") is not None)

    await world.advance(1.9)
    assert world.record("orders", "o-1").suspect
    await world.advance(0.1)
    assert world.find("orders", "o-1") is None
    assert len(world.node.catalog.sessions) == len(world.node.sessions) == 0


@native
async def test_a_silent_session_is_pinged_and_expires_after_its_lease(world: World) -> None:
    peer = await world.connect()
    await peer.attach("s", ttl_ms=9_000)
    await peer.register("orders", "o-1", "s")

    await world.advance(3)
    await peer.hear(wire.PING, 0)
    await world.advance(3)
    await peer.hear(wire.PING, 0)
    await world.advance(2.9)
    assert usable(world) == ["o-1"]
    await world.advance(0.1)

    assert world.find("orders", "o-1") is None


@native
async def test_a_silent_session_is_judged_by_its_lease_alone(world: World) -> None:
    peer = await world.connect()
    await peer.attach("s", ttl_ms=60_000)
    await peer.register("orders", "o-1", "s")

    for _ in range(59):
        await world.advance(1, look=True)

    assert usable(world) == ["o-1"]
    assert len(world.server.connections) == 1


@native
async def test_any_frame_renews_a_session(world: World) -> None:
    peer = await world.connect()
    await peer.attach("s", ttl_ms=9_000)
    await peer.register("orders", "o-1", "s")

    for _ in range(5):
        await world.advance(8)
        await peer.fence()

    await world.advance(8)
    assert usable(world) == ["o-1"]


@native
async def test_a_client_that_answers_pings_keeps_its_session_without_a_timer(
    world: World,
) -> None:
    peer = await world.connect()
    await peer.attach("s", ttl_ms=9_000)
    await peer.register("orders", "o-1", "s")

    for _ in range(10):
        await world.advance(3, look=True)
        heard = world.connection.heard_ns
        kind, ping_id, _ = await peer.frame()
        assert kind == wire.PING
        peer.say(wire.PONG, ping_id)
        await until(lambda heard=heard: world.connection.heard_ns > heard)  # type: ignore[misc]
        while (await peer.fence()) != []:
            pass

    assert usable(world) == ["o-1"]


@native
async def test_who_lost_its_session_by_silence_is_told_and_closed(world: World) -> None:
    peer = await world.connect()
    await peer.attach("s", ttl_ms=9_000)

    await world.advance(3)
    await world.advance(6)

    assert (await peer.frame())[0] == wire.PING
    assert (await peer.fault(0)).code == "unknown-session"
    assert await peer.hears_the_end()


@native
async def test_a_registration_for_a_session_that_ended_is_refused(world: World) -> None:
    peer = await world.connect()
    await peer.attach("s")

    peer.say(wire.DETACH, 7, "s")
    peer.say(wire.WRITE, 8, [Register(ORDERS, "s")])

    await peer.hear(wire.OUTCOMES, 7)
    refused = refusal(wire.decode_outcomes(await peer.hear(wire.OUTCOMES, 8)))
    assert refused.code == "unknown-session"


@native
async def test_a_silent_connection_without_a_session_is_pinged_and_then_closed(
    world: World,
) -> None:
    silent, greeted_not = await world.connect(), await world.connect(hello=False)

    await world.advance(2.1, look=True)
    await silent.hear(wire.PING, 0)
    await world.advance(3, look=True)

    for peer in (silent, greeted_not):
        with contextlib.suppress(ConnectionResetError):
            assert await peer.hears_the_end()


@native
async def test_a_connection_that_answers_is_never_closed_for_silence(world: World) -> None:
    peer = await world.connect()

    for _ in range(10):
        await world.advance(4, look=True)
        assert (await peer.frame())[0] == wire.PING
        peer.say(wire.PONG, 0)
        await peer.fence()

    assert len(world.server.connections) == 1
