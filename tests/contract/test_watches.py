"""A watch is a snapshot and then every change, once and in order, whoever serves it."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx2
from tests.contract.clusters import Cluster, eventually
from tests.contract.engines import KEEPING, OF_SEVERAL, OUTLIVING, on
from tests.contract.telling import following, told, watched

from waypost import wire
from waypost.model import Change


def in_order(changes: list[Change]) -> bool:
    revisions = [change.revision for change in changes]
    return revisions == sorted(set(revisions))


@told
async def test_a_watch_tells_what_is_there_and_then_each_change_once_and_in_order(
    cluster: Cluster, service: str
) -> None:
    async with cluster.client() as provider, cluster.client() as consumer:
        registered = await provider.register(service, port=80, id="o1", version="0")
        async with following(consumer, service) as follower:
            there = await follower.next()
            for version in range(1, 6):
                await registered.update(version=str(version))
            await registered.set_health("critical", "tired")
            await registered.deregister()
            gone = await follower.until("down")

            assert (there.kind, there.record.instance) == (
                "up",
                follower.changes[0].record.instance,
            )
            assert follower.kinds == ["up", *["changed"] * 6, "down"]
            versions = [each.record.instance.version for each in follower.changes]
            assert versions == ["0", "1", "2", "3", "4", "5", "5", "5"]
            assert in_order(follower.changes)
            assert gone.record.health == "critical"


@told
async def test_every_node_tells_its_watchers_the_same(cluster: Cluster, service: str) -> None:
    async with cluster.client() as provider:
        peers = [cluster.peer(name) for name in cluster.names]
        opened = [await peer.__aenter__() for peer in peers]
        followers = [await watched(peer, service) for peer in opened]

        for number in range(5):
            registered = await provider.register(service, port=80, id=f"o{number}")
            await registered.update(weight=number)
        await provider.deregister(service, "o4")
        for follower in followers:
            await follower.until("down", "o4")
        for peer in peers:
            await peer.__aexit__(None, None, None)

        assert len(followers[0].changes) == 11
        assert in_order(followers[0].changes)
        assert all(each.changes == followers[0].changes for each in followers)


@told
async def test_a_watch_of_all_services_tells_of_each_of_them(
    cluster: Cluster, service: str
) -> None:
    async with cluster.client() as provider, cluster.peer(cluster.names[-1]) as peer:
        follower = await watched(peer, "")
        await provider.register(service, port=80, id="o1")
        await provider.register(f"team-a/{service}", port=81, id="o2")
        await follower.until("up", "o2")

        mine = [c.record.instance for c in follower.changes if service in c.record.instance.service]
        assert [each.service for each in mine] == [service, f"team-a/{service}"]


@told
async def test_a_watch_resumes_at_another_node_where_it_stopped(
    cluster: Cluster, service: str
) -> None:
    here = cluster.names[0]
    async with cluster.client() as provider:
        async with cluster.peer(here) as peer:
            before = await watched(peer, service)
            await provider.register(service, port=80, id="o1")
            last = await before.until("up", "o1")
        await provider.register(service, port=81, id="o2")
        await provider.deregister(service, "o1")

        async with cluster.peer(cluster.after(here)) as peer:
            after = await watched(peer, service, last.revision)
            await after.until("down", "o1")

        assert [(c.kind, c.record.instance.id) for c in after.changes] == [
            ("up", "o2"),
            ("down", "o1"),
        ]
        assert in_order(before.changes + after.changes)


@told
async def test_a_watch_that_nothing_was_missed_by_is_told_so_and_gets_no_snapshot(
    cluster: Cluster, service: str
) -> None:
    async with cluster.client() as provider, cluster.peer(cluster.names[-1]) as peer:
        registered = await provider.register(service, port=80, id="o1")
        (found,) = (await provider.resolve(service, consistency="linearizable")).records
        asked = peer.ask(wire.WATCH, wire.Watch(service, found.revision))
        bookmark = wire.decode_number(await peer.hear(wire.BOOKMARK, asked))
        assert bookmark >= found.revision
        await registered.deregister()


async def events(stream: httpx2.Response) -> AsyncIterator[tuple[str, int, dict[str, object]]]:
    """Name, id and data of each server-sent event."""
    name, number = "", 0
    async for line in stream.aiter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "id":
            number = int(value)
        elif field == "data":
            yield name, number, json.loads(value)


@told
async def test_events_over_http_resume_at_another_node_by_their_id(
    cluster: Cluster, service: str
) -> None:
    here, there = cluster.names[0], cluster.after(cluster.names[0])
    query = {"service": service}
    async with cluster.client() as provider:
        async with cluster.http(here) as http, http.stream("GET", "/watch", params=query) as stream:
            told_here = events(stream)
            assert (await anext(told_here))[0] == "snapshot"
            await provider.register(service, port=80, id="o1")
            name, last, change = await anext(told_here)
            assert (name, change["kind"]) == ("change", "up")
        await provider.deregister(service, "o1")

        resumed = {"last-event-id": str(last)}
        async with (
            cluster.http(there) as http,
            http.stream("GET", "/watch", params=query, headers=resumed) as stream,
        ):
            told_there = events(stream)
            name, after, change = await anext(told_there)
            assert (name, change["kind"]) == ("change", "down")
            assert after > last


@on(OUTLIVING)
@told
async def test_a_watch_goes_on_when_its_node_is_lost(rough: Cluster, service: str) -> None:
    async with rough.client() as provider, rough.client() as consumer:
        registered = await provider.register(service, port=80, id="o1", version="0")
        async with following(consumer, service) as follower:
            for version in range(1, 16):
                await registered.update(version=str(version))
                if version in (5, 10):
                    gone = (await consumer.status()).node
                    await rough.kill(gone)
                    await registered.update(version=f"{version}+")
                    await rough.start(gone)
            while follower.changes[-1:] == [] or (
                follower.changes[-1].record.instance.version != "15"
            ):
                await follower.next()

            assert follower.kinds == ["up", *["changed"] * (len(follower.changes) - 1)]
            assert in_order(follower.changes)


@on(KEEPING)
@told
async def test_a_watch_goes_on_when_the_whole_registry_was_restarted(
    rough: Cluster, service: str
) -> None:
    async with rough.client() as provider, rough.client() as consumer:
        await provider.register(service, port=80, id="o1", ttl=0)
        async with following(consumer, service) as follower:
            await follower.until("up", "o1")
            await rough.stop()
            await rough.start()
            await provider.register(service, port=81, id="o2", ttl=0)
            await follower.until("up", "o2")

            assert follower.kinds == ["up", "up"]
            assert in_order(follower.changes)


@on(OF_SEVERAL)
@told
async def test_a_node_that_is_behind_tells_a_watcher_nothing_twice(
    rough: Cluster, service: str
) -> None:
    """It resumes at a node that was down while it was told of changes elsewhere."""
    behind = rough.names[-1]
    async with rough.client() as provider:
        await rough.kill(behind)
        async with rough.peer(rough.names[0]) as peer:
            before = await watched(peer, service)
            for number in range(20):
                await provider.register(service, port=80, id=f"o{number}", ttl=0)
            last = await before.until("up", "o19")
        starting = asyncio.create_task(rough.start(behind))

        async def resume() -> bool:
            async with rough.peer(behind) as peer:
                asked = peer.ask(wire.WATCH, wire.Watch(service, last.revision))
                kind, frame_id, body = await peer.frame()
                assert (kind, frame_id) == (wire.BOOKMARK, asked)
                return wire.decode_number(body) >= last.revision

        await eventually(resume)
        await starting
