"""Views across reconnects, slow readers and nodes that refuse."""

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.client.records import change, record
from tests.client.scripted import Peer, ScriptedNode, attaches, registers_all, scripted

import waypost
from waypost import wire
from waypost.client import watching
from waypost.client.registry import Registry
from waypost.errors import Invalid, NoInstance
from waypost.model import Change

Test = Callable[[Registry, ScriptedNode], Coroutine[Any, Any, None]]


def watching_at(test: Test) -> None:
    async def run() -> None:
        async with (
            scripted() as node,
            waypost.connect(str(node.address), cache_dir=None) as registry,
        ):
            await test(registry, node)

    asyncio.run(run())


async def begun(node: ScriptedNode) -> tuple[int, wire.Watch]:
    watch_id, body = await node.expect(wire.WATCH)
    return watch_id, wire.decode_watch(body)


def kind_and_id(told: Change) -> tuple[str, str]:
    return told.kind, told.record.instance.id


def test_what_was_applied_is_confirmed_once_per_turn() -> None:
    async def test(registry: Registry, node: ScriptedNode) -> None:
        watch = registry.watch("orders")
        watch_id, asked = await begun(node)
        assert asked == wire.Watch("orders", 0)

        node.peer.send(wire.SNAPSHOT, watch_id, wire.Snapshot(4, []))
        for revision in (5, 6, 7):
            up = change(revision, "up", record(f"o{revision}", revision=revision))
            node.peer.send(wire.CHANGES, watch_id, wire.Changes(revision, [up]))

        assert await node.expect(wire.SEEN) == (watch_id, wire.encode(7))
        assert [kind_and_id(await anext(watch))[1] for _ in range(3)] == ["o5", "o6", "o7"]

    watching_at(test)


def test_a_pick_no_longer_chooses_what_has_been_confirmed_as_gone() -> None:
    async def test(registry: Registry, node: ScriptedNode) -> None:
        orders = registry.service("orders")
        watch_id, _ = await begun(node)
        node.peer.send(wire.SNAPSHOT, watch_id, wire.Snapshot(4, [record("o1")]))
        await node.expect(wire.SEEN)
        assert orders.pick().id == "o1"

        drained = record("o1", health="draining")
        node.peer.send(wire.CHANGES, watch_id, wire.Changes(5, [change(5, "changed", drained)]))
        await node.expect(wire.SEEN)

        with pytest.raises(NoInstance, match="drain"):
            orders.pick()

    watching_at(test)


def test_a_reconnect_goes_on_where_the_last_connection_stopped() -> None:
    async def test(registry: Registry, node: ScriptedNode) -> None:
        watch = registry.watch("orders")
        watch_id, _ = await begun(node)
        node.peer.send(wire.SNAPSHOT, watch_id, wire.Snapshot(4, [record("o1")]))
        assert kind_and_id(await anext(watch)) == ("up", "o1")
        node.peer.close()

        watch_id, asked = await begun(node)
        assert asked.since == 4
        node.peer.send(
            wire.CHANGES, watch_id, wire.Changes(6, [change(6, "up", record("o2", revision=6))])
        )

        assert kind_and_id(await anext(watch)) == ("up", "o2")
        assert watch.revision == 6

    watching_at(test)


def test_a_bookmark_moves_the_place_where_a_watch_goes_on() -> None:
    async def test(registry: Registry, node: ScriptedNode) -> None:
        watch = registry.watch("orders")
        watch_id, _ = await begun(node)
        node.peer.send(wire.SNAPSHOT, watch_id, wire.Snapshot(4, []))
        node.peer.send(wire.BOOKMARK, watch_id, 90)
        await node.expect(wire.SEEN)
        node.peer.close()

        assert (await begun(node))[1].since == 90
        assert watch.revision == 90

    watching_at(test)


def test_a_resync_after_compaction_is_told_as_its_difference() -> None:
    async def test(registry: Registry, node: ScriptedNode) -> None:
        watch = registry.watch("orders")
        watch_id, _ = await begun(node)
        node.peer.send(wire.SNAPSHOT, watch_id, wire.Snapshot(4, [record("o1"), record("o2")]))
        assert [kind_and_id(await anext(watch)) for _ in range(2)] == [("up", "o1"), ("up", "o2")]
        node.peer.close()

        watch_id, _ = await begun(node)
        now = [record("o2"), record("o3", revision=900)]
        node.peer.send(wire.SNAPSHOT, watch_id, wire.Snapshot(1000, now))

        told = [await anext(watch) for _ in range(2)]
        assert [kind_and_id(one) for one in told] == [("up", "o3"), ("down", "o1")]
        assert told[1].at_ms == 0

    watching_at(test)


def test_a_view_says_that_it_is_cached_while_the_registry_is_away_and_its_age_grows() -> None:
    async def test(registry: Registry, node: ScriptedNode) -> None:
        orders = registry.service("orders")
        watch_id, _ = await begun(node)
        node.peer.send(wire.SNAPSHOT, watch_id, wire.Snapshot(4, [record("o1")]))
        await orders.ready()
        assert orders.source == "follower"

        node.answers.pop(wire.HELLO)
        node.peer.close()
        while orders.source == "follower":
            await asyncio.sleep(0)
        age, as_of = orders.age, orders.as_of
        await asyncio.sleep(0.02)

        assert orders.source == "cache"
        assert orders.age >= age + 0.01
        assert orders.as_of == as_of
        assert orders.pick().id == "o1"
        answer = await registry.resolve("orders")
        assert (answer.source, answer.revision, len(answer.instances)) == ("cache", 4, 1)

    watching_at(test)


def test_a_registry_that_lost_its_data_gives_providers_time_to_return(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watching, "HOLD_S", 0.1)

    async def test(registry: Registry, node: ScriptedNode) -> None:
        watch = registry.watch("orders")
        orders = registry.service("orders")
        watch_id, _ = await begun(node)
        node.peer.send(wire.SNAPSHOT, watch_id, wire.Snapshot(50, [record("o1"), record("o2")]))
        assert {kind_and_id(await anext(watch)) for _ in range(2)} == {("up", "o1"), ("up", "o2")}

        node.cluster = "c2"
        node.peer.close()
        watch_id, asked = await begun(node)
        assert asked.since == 0
        node.peer.send(wire.SNAPSHOT, watch_id, wire.Snapshot(1, []))
        back = change(2, "up", record("o2", revision=2))
        node.peer.send(wire.CHANGES, watch_id, wire.Changes(2, [back]))
        await node.expect(wire.SEEN)
        assert {instance.id for instance in orders.instances} == {"o1", "o2"}

        assert kind_and_id(await anext(watch)) == ("down", "o1")
        assert {instance.id for instance in orders.instances} == {"o2"}

    watching_at(test)


def test_a_slow_reader_is_given_the_latest_state_of_what_it_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watching, "PENDING_MAX", 10)

    async def test(registry: Registry, node: ScriptedNode) -> None:
        watch = registry.watch("orders")
        watch_id, _ = await begun(node)
        node.peer.send(wire.SNAPSHOT, watch_id, wire.Snapshot(1, [record("o1"), record("o2")]))
        assert kind_and_id(await anext(watch)) == ("up", "o1")

        for revision in range(2, 30):
            again = record("o1", port=revision, revision=revision)
            node.peer.send(
                wire.CHANGES, watch_id, wire.Changes(revision, [change(revision, "changed", again)])
            )
        node.peer.send(wire.CHANGES, watch_id, wire.Changes(30, [change(30, "down", record("o2"))]))
        while (await node.expect(wire.SEEN))[1] != wire.encode(30):
            pass

        told = await watch.take()
        assert [kind_and_id(one) for one in told] == [("changed", "o1")]
        assert told[0].record.instance.port == 29

    watching_at(test)


def test_a_watch_that_cannot_be_had_now_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watching, "REWATCH_S", 0.01)

    async def test(registry: Registry, node: ScriptedNode) -> None:
        watch = registry.watch("orders")
        watch_id, _ = await begun(node)
        node.peer.fault(watch_id, "overloaded", "too many watches")

        watch_id, _ = await begun(node)
        node.peer.send(wire.SNAPSHOT, watch_id, wire.Snapshot(1, [record("o1")]))

        assert kind_and_id(await anext(watch)) == ("up", "o1")

    watching_at(test)


def test_a_watch_that_will_never_be_had_raises_why() -> None:
    async def test(registry: Registry, node: ScriptedNode) -> None:
        watch = registry.watch("orders")
        watch_id, _ = await begun(node)
        node.peer.fault(watch_id, "invalid", "not a service", field="service")

        with pytest.raises(Invalid, match="not a service"):
            await anext(watch)
        with pytest.raises(Invalid, match="not a service"):
            await registry.service("orders").ready()

    watching_at(test)


def test_a_watch_that_is_forgotten_is_ended_at_the_next_change() -> None:
    async def test(registry: Registry, node: ScriptedNode) -> None:
        watch = registry.watch("orders")
        watch_id, _ = await begun(node)
        node.peer.send(wire.SNAPSHOT, watch_id, wire.Snapshot(1, []))
        await watch.ready()
        del watch
        gc.collect()

        node.peer.send(wire.BOOKMARK, watch_id, 9)

        assert (await node.expect(wire.UNWATCH))[0] == watch_id

    watching_at(test)


def test_closing_the_client_ends_an_iteration() -> None:
    async def test(registry: Registry, node: ScriptedNode) -> None:
        async def read() -> list[Change]:
            return [one async for one in registry.watch("orders")]

        reading = asyncio.create_task(read())
        watch_id, _ = await begun(node)
        node.peer.send(wire.SNAPSHOT, watch_id, wire.Snapshot(1, [record("o1")]))
        await node.expect(wire.SEEN)

        await registry.close()

        assert [kind_and_id(one) for one in await reading] == [("up", "o1")]

    watching_at(test)


def test_a_view_shows_what_this_client_did_though_it_is_told_after_the_outcome() -> None:
    async def test(registry: Registry, node: ScriptedNode) -> None:
        orders = registry.service("orders")
        watch_id, _ = await begun(node)
        node.peer.send(wire.SNAPSHOT, watch_id, wire.Snapshot(1, []))
        await orders.ready()

        def tell_late(peer: Peer, frame_id: int, body: bytes) -> None:
            up = change(2, "up", record("o1", revision=2))
            peer.send(wire.CHANGES, watch_id, wire.Changes(2, [up]))
            peer.send(wire.PONG, frame_id)

        node.answers[wire.ATTACH] = attaches
        node.answers[wire.WRITE] = registers_all
        node.answers[wire.PING] = tell_late
        await registry.register("orders", port=1, id="o1")

        assert [instance.id for instance in orders.instances] == ["o1"]

    watching_at(test)


def test_who_reads_a_change_finds_it_in_every_view() -> None:
    async def test(registry: Registry, node: ScriptedNode) -> None:
        watch = registry.watch("orders")
        orders = registry.service("orders")
        watch_id, _ = await begun(node)
        node.peer.send(wire.SNAPSHOT, watch_id, wire.Snapshot(1, []))
        await watch.ready()

        up = change(2, "up", record("o1", revision=2))
        body = wire.encode(wire.Changes(2, [up]))
        registry._watching._take(wire.CHANGES, watch_id, body)  # within this very turn
        told = await anext(watch)

        assert told == up
        assert [instance.id for instance in orders.instances] == ["o1"]

    watching_at(test)


def test_a_view_that_is_slow_to_refresh_is_refreshed_seldom_and_confirmed_when_it_was() -> None:
    async def test(registry: Registry, node: ScriptedNode) -> None:
        orders = registry.service("orders")
        watch_id, _ = await begun(node)
        node.peer.send(wire.SNAPSHOT, watch_id, wire.Snapshot(1, []))
        await orders.ready()
        refreshed = []

        def slowly() -> None:
            refreshed.append(orders.revision)
            time.sleep(0.002)

        registry._watching.watched("orders").refreshes.append(slowly)
        began = time.monotonic()
        for revision in range(2, 202):
            again = record("o1", port=revision, revision=revision)
            node.peer.send(
                wire.CHANGES, watch_id, wire.Changes(revision, [change(revision, "changed", again)])
            )
            connection = registry._link.connection
            assert connection is not None
            await connection.fence()
        took = time.monotonic() - began
        while (await node.expect(wire.SEEN))[1] != wire.encode(201):
            pass

        assert len(refreshed) <= took / 0.02 + 2
        assert refreshed[-1] == 201
        assert orders.pick().port == 201

    watching_at(test)


def test_a_view_is_not_ready_before_it_can_be_picked_from() -> None:
    async def test(registry: Registry, node: ScriptedNode) -> None:
        orders = registry.service("orders")
        watch_id, _ = await begun(node)
        body = wire.encode(wire.Snapshot(1, [record("o1")]))
        registry._watching._take(wire.SNAPSHOT, watch_id, body)  # within this very turn

        async with orders.call() as instance:
            assert instance.id == "o1"

    watching_at(test)


def test_a_snapshot_in_parts_is_taken_when_it_is_whole() -> None:
    async def test(registry: Registry, node: ScriptedNode) -> None:
        orders = registry.service("orders", "round_robin")
        watch_id, _ = await begun(node)
        node.peer.send(wire.SNAPSHOT, watch_id, wire.Snapshot(1, [record("o1"), record("o2")]))
        await node.expect(wire.SEEN)

        connection = registry._link.connection
        assert connection is not None
        node.peer.send(wire.SNAPSHOT, watch_id, wire.Snapshot(9, [record("o2")], True))
        await connection.fence()
        assert {orders.pick().id for _ in range(4)} == {"o1", "o2"}, "a part says nothing"

        node.peer.send(wire.SNAPSHOT, watch_id, wire.Snapshot(9, [record("o3")]))
        assert await node.expect(wire.SEEN) == (watch_id, wire.encode(9))
        assert {orders.pick().id for _ in range(4)} == {"o2", "o3"}

    watching_at(test)
