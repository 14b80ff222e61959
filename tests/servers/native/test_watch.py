"""A watch is a snapshot and then every change, once, in order."""

import asyncio

from tests.servers.native.peer import Peer
from tests.servers.native.world import World, native, opened, until

from waypost import wire
from waypost.catalog.history import History
from waypost.commands import Deregister, Register, SetHealth
from waypost.model import Change, Instance
from waypost.node.node import BOOKMARK_NS


def told(changes: wire.Changes) -> list[tuple[str, str]]:
    return [(change.kind, change.record.instance.id) for change in changes.changes]


async def watch(peer: Peer, service: str = "orders", since: int = 0) -> int:
    return peer.ask(wire.WATCH, wire.Watch(service, since))


@native
async def test_a_watch_begins_with_everything_drained_and_suspect_ones_too(world: World) -> None:
    peer, provider = await world.connect(), await world.connect()
    await provider.attach("s")
    await provider.register("orders", "o-1", "s")
    await peer.register("orders", "o-2", weight=0)
    provider.abort()
    await until(lambda: world.record("orders", "o-1").suspect)

    snapshot = wire.decode_snapshot(await peer.hear(wire.SNAPSHOT, await watch(peer)))

    assert {r.instance.id: r.suspect for r in snapshot.records} == {"o-1": True, "o-2": False}
    assert snapshot.revision == world.node.revision


@native
async def test_a_large_snapshot_comes_in_parts(world: World) -> None:
    peer = await world.connect()
    count = 2 * wire.RECORDS_PER_SNAPSHOT_MAX + 1
    instances = [Instance("orders", f"o-{n}", "10.0.0.1", 8080) for n in range(count)]
    await peer.write(*map(Register, instances))

    watching = await watch(peer)

    parts = [wire.decode_snapshot(await peer.hear(wire.SNAPSHOT, watching)) for _ in range(3)]
    assert [(len(each.records), each.more) for each in parts] == [
        (wire.RECORDS_PER_SNAPSHOT_MAX, True),
        (wire.RECORDS_PER_SNAPSHOT_MAX, True),
        (1, False),
    ]
    assert {r.instance.id for each in parts for r in each.records} == {i.id for i in instances}


@native
async def test_a_watch_tells_every_change_once_and_in_order(world: World) -> None:
    peer, other = await world.connect(), await world.connect()
    watching = await watch(peer)
    await peer.hear(wire.SNAPSHOT, watching)

    await other.register("orders", "o-1")
    await other.write(SetHealth("orders", "o-1", "critical", "no database"))
    await other.register("invoices", "i-1")
    await other.write(Deregister("orders", "o-1"))

    heard: list[Change] = []
    for _ in range(3):
        heard += wire.decode_changes(await peer.hear(wire.CHANGES, watching)).changes
    assert [(c.kind, c.revision) for c in heard] == [("up", 1), ("changed", 2), ("down", 4)]
    assert heard[1].record.why == "no database"
    assert heard[2].record.why == "deregistered"


@native
async def test_the_changes_of_one_write_come_together(world: World) -> None:
    peer, other = await world.connect(), await world.connect()
    watching = await watch(peer)
    await peer.hear(wire.SNAPSHOT, watching)

    instances = [Instance("orders", f"o-{n}", "10.0.0.1", 8080) for n in range(100)]
    await other.write(*map(Register, instances))

    changes = wire.decode_changes(await peer.hear(wire.CHANGES, watching))
    assert told(changes) == [("up", f"o-{n}") for n in range(100)]


@native
async def test_a_watch_of_the_empty_name_tells_of_every_service(world: World) -> None:
    peer = await world.connect()
    await peer.register("orders", "o-1")
    watching = await watch(peer, "")

    snapshot = wire.decode_snapshot(await peer.hear(wire.SNAPSHOT, watching))
    assert [r.instance.service for r in snapshot.records] == ["orders"]

    asked = peer.ask(wire.WRITE, [Register(Instance("invoices", "i-1", "10.0.0.1", 80))])
    frames = [(await peer.frame())[:2] for _ in range(2)]
    assert sorted(frames) == [(wire.OUTCOMES, asked), (wire.CHANGES, watching)]


@native
async def test_a_watch_of_no_service_name_is_refused(world: World) -> None:
    peer = await world.connect()

    assert (await peer.fault(await watch(peer, "No Such"))).field == "service"
    assert len(world.node.watches) == 0


@native
async def test_a_watch_may_begin_before_the_first_instance(world: World) -> None:
    peer, other = await world.connect(), await world.connect()
    watching = await watch(peer)

    assert wire.decode_snapshot(await peer.hear(wire.SNAPSHOT, watching)).records == []
    await other.register("orders", "o-1")
    changes = wire.decode_changes(await peer.hear(wire.CHANGES, watching))
    assert told(changes) == [("up", "o-1")]


@native
async def test_a_watch_resumes_after_the_revision_that_it_names(world: World) -> None:
    peer = await world.connect()
    for n in range(5):
        await peer.register("orders", f"o-{n}")

    changes = wire.decode_changes(await peer.hear(wire.CHANGES, await watch(peer, since=3)))

    assert told(changes) == [("up", "o-3"), ("up", "o-4")]
    assert changes.revision == 5


@native
async def test_a_resumed_watch_is_told_the_latest_of_each_instance_only(world: World) -> None:
    peer = await world.connect()
    for n in range(5):
        await peer.register("orders", "o-1", version=str(n))
    await peer.register("orders", "o-2")
    await peer.write(Deregister("orders", "o-2"))

    changes = wire.decode_changes(await peer.hear(wire.CHANGES, await watch(peer, since=1)))

    assert told(changes) == [("changed", "o-1"), ("down", "o-2")]
    assert changes.changes[0].record.instance.version == "4"


@native
async def test_a_resumed_watch_that_missed_nothing_is_told_so(world: World) -> None:
    peer = await world.connect()
    await peer.register("orders", "o-1")
    await peer.register("invoices", "i-1")

    body = await peer.hear(wire.BOOKMARK, await watch(peer, since=1))

    assert wire.decode_number(body) == 2


def test_a_watch_from_before_the_history_begins_with_a_snapshot_again() -> None:
    async def run() -> None:
        async with opened(History(changes_max=3)) as world:
            peer = await world.connect()
            for n in range(10):
                await peer.register("orders", f"o-{n}")

            watching = await watch(peer, since=5)

            snapshot = wire.decode_snapshot(await peer.hear(wire.SNAPSHOT, watching))
            assert len(snapshot.records) == 10
            assert (await peer.hear(wire.CHANGES, await watch(peer, since=7))) != b""

    asyncio.run(run())


@native
async def test_a_watch_from_a_revision_to_come_begins_with_a_snapshot(world: World) -> None:
    peer = await world.connect()
    await peer.register("orders", "o-1")

    snapshot = wire.decode_snapshot(await peer.hear(wire.SNAPSHOT, await watch(peer, since=99)))

    assert (snapshot.revision, len(snapshot.records)) == (1, 1)


@native
async def test_the_id_of_an_open_watch_cannot_be_watched_with(world: World) -> None:
    peer = await world.connect()
    peer.say(wire.WATCH, 7, wire.Watch("orders"))
    await peer.hear(wire.SNAPSHOT, 7)

    peer.say(wire.WATCH, 7, wire.Watch("invoices"))

    assert (await peer.fault(7)).field == "id"
    assert len(world.node.watches) == 1


@native
async def test_an_unwatch_is_the_end_of_its_events_and_has_no_answer(world: World) -> None:
    peer = await world.connect()
    peer.say(wire.WATCH, 7, wire.Watch("orders"))
    await peer.hear(wire.SNAPSHOT, 7)

    peer.say(wire.UNWATCH, 7)
    peer.say(wire.UNWATCH, 7)

    assert await peer.fence() == []
    await peer.register("orders", "o-1")
    peer.say(wire.WATCH, 7, wire.Watch("orders"))
    await peer.hear(wire.SNAPSHOT, 7)


@native
async def test_an_idle_watch_is_told_how_far_it_is_up_to_date(world: World) -> None:
    peer, other = await world.connect(), await world.connect()
    watching = await watch(peer)
    await peer.hear(wire.SNAPSHOT, watching)
    await other.register("invoices", "i-1")

    await world.advance(BOOKMARK_NS / 1e9)

    assert wire.decode_number(await peer.hear(wire.BOOKMARK, watching)) == 1


@native
async def test_one_connection_has_many_watches_each_with_its_own_events(world: World) -> None:
    peer, other = await world.connect(), await world.connect()
    for n in range(1_000):
        peer.say(wire.WATCH, 10_000 + n, wire.Watch(f"service-{n}"))
    for n in range(1_000):
        await peer.hear(wire.SNAPSHOT, 10_000 + n)

    await other.write(
        *(Register(Instance(f"service-{n}", "i", "10.0.0.1", 80)) for n in range(0, 1_000, 7))
    )

    for n in range(0, 1_000, 7):
        changes = wire.decode_changes(await peer.hear(wire.CHANGES, 10_000 + n))
        assert [c.record.instance.service for c in changes.changes] == [f"service-{n}"]


@native
async def test_a_connection_has_no_more_watches_than_allowed(world: World) -> None:
    peer = await world.connect()
    for n in range(wire.WATCHES_PER_CONNECTION_MAX + 1):
        peer.say(wire.WATCH, 1_000 + n, wire.Watch("orders"))
    for n in range(wire.WATCHES_PER_CONNECTION_MAX):
        await peer.hear(wire.SNAPSHOT, 1_000 + n)

    fault = await peer.fault(1_000 + wire.WATCHES_PER_CONNECTION_MAX)

    assert fault.code == "overloaded"
    assert "watch all services at once" in fault.message


# The drain barrier


@native
async def test_a_drain_is_answered_when_every_watcher_has_seen_it(world: World) -> None:
    peer, first, second = [await world.connect() for _ in range(3)]
    await peer.register("orders", "o-1")
    for watcher, service in ((first, "orders"), (second, "")):
        watcher.say(wire.WATCH, 7, wire.Watch(service))
        await watcher.hear(wire.SNAPSHOT, 7)

    asked = peer.ask(wire.DRAIN, wire.Drain("orders", "o-1", 60_000))
    for watcher in (first, second):
        assert await peer.fence() == []  # not yet
        changes = wire.decode_changes(await watcher.hear(wire.CHANGES, 7))
        assert changes.changes[0].record.health == "draining"
        watcher.say(wire.SEEN, 7, changes.revision)
        await watcher.fence()

    drained = wire.decode_drained(await peer.hear(wire.DRAINED, asked))
    assert drained == wire.Drained(2, 2, 0)
    assert (await peer.resolve("orders")).records == []


@native
async def test_a_drain_tells_how_many_have_not_confirmed_by_its_deadline(world: World) -> None:
    peer, watcher = await world.connect(), await world.connect()
    await peer.register("orders", "o-1")
    watcher.say(wire.WATCH, 7, wire.Watch("orders"))
    watcher.say(wire.WATCH, 8, wire.Watch("orders"))
    await watcher.hear(wire.SNAPSHOT, 7)
    await watcher.hear(wire.SNAPSHOT, 8)

    asked = peer.ask(wire.DRAIN, wire.Drain("orders", "o-1", 50))
    await watcher.hear(wire.CHANGES, 7)
    watcher.say(wire.SEEN, 7, 2)

    assert wire.decode_drained(await peer.hear(wire.DRAINED, asked)) == wire.Drained(2, 2, 1)
    assert world.record("orders", "o-1").health == "draining"


@native
async def test_a_drain_without_watchers_is_answered_at_once(world: World) -> None:
    peer = await world.connect()
    await peer.register("orders", "o-1")

    asked = peer.ask(wire.DRAIN, wire.Drain("orders", "o-1", 60_000))

    assert wire.decode_drained(await peer.hear(wire.DRAINED, asked)) == wire.Drained(2, 0, 0)


@native
async def test_nobody_has_seen_what_it_was_not_sent(world: World) -> None:
    peer, watcher = await world.connect(), await world.connect()
    await peer.register("orders", "o-1")
    watcher.say(wire.WATCH, 7, wire.Watch("orders"))
    await watcher.hear(wire.SNAPSHOT, 7)
    watcher.say(wire.SEEN, 7, 1_000_000)
    watcher.say(wire.SEEN, 99, 1)
    await watcher.fence()

    asked = peer.ask(wire.DRAIN, wire.Drain("orders", "o-1", 20))

    assert wire.decode_drained(await peer.hear(wire.DRAINED, asked)).unseen == 1


@native
async def test_a_watcher_that_breaks_holds_up_no_drain(world: World) -> None:
    peer, watcher = await world.connect(), await world.connect()
    await peer.register("orders", "o-1")
    watcher.say(wire.WATCH, 7, wire.Watch("orders"))
    await watcher.hear(wire.SNAPSHOT, 7)

    asked = peer.ask(wire.DRAIN, wire.Drain("orders", "o-1", 60_000))
    await peer.fence()
    watcher.abort()

    assert wire.decode_drained(await peer.hear(wire.DRAINED, asked)) == wire.Drained(2, 1, 0)
