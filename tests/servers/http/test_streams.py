"""Watches over HTTP: a snapshot, and then every change, once, in order, at the reader's pace."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2
import msgspec
import pytest
from tests.servers.http.world import World, of, served, until

from waypost.servers.http import server, streams


class Event(msgspec.Struct):
    kind: str
    id: str
    data: Any

    @property
    def ids(self) -> list[str]:
        return [instance["id"] for instance in self.data["instances"]]


@asynccontextmanager
async def watching(
    world: World, query: str = "", last_event_id: str | None = None
) -> AsyncIterator[AsyncIterator[Event]]:
    headers = {} if last_event_id is None else {"last-event-id": last_event_id}
    async with world.client.stream("GET", f"/api/v1/watch{query}", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        yield _events(answer)


async def _events(answer: httpx2.Response) -> AsyncIterator[Event]:
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            assert name in ("event", "id", "data", "retry"), line
            fields[name] = value
        elif "event" in fields:
            yield Event(fields["event"], fields.get("id", ""), json.loads(fields["data"]))
            fields = {}
        else:
            assert fields == {"retry": "1000"}
            fields = {}


@asynccontextmanager
async def unread(address: tuple[str, int]) -> AsyncIterator[socket.socket]:
    """A stream of ``web`` on a socket that nobody reads, with room for little."""
    loop = asyncio.get_running_loop()
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.setblocking(False)
        await loop.sock_connect(reader, address)
        await loop.sock_sendall(
            reader, b"GET /api/v1/watch?service=web HTTP/1.1\r\nhost: x\r\n\r\n"
        )
        yield reader


async def take(events: AsyncIterator[Event], count: int = 1) -> list[Event]:
    async with asyncio.timeout(10):
        return [await anext(events) for _ in range(count)]


@served
async def test_a_snapshot_comes_first_and_then_every_change_in_order(world: World) -> None:
    await world.register("web", "a")
    async with watching(world, "?service=web") as events:
        (snapshot,) = await take(events)
        await world.register("web", "b", zone="z")
        await world.register("other", "x")
        await world.post(of("web") + "/instances/a/health", {"health": "critical", "why": "w"})
        await world.delete(of("web") + "/instances/b")
        changes = await take(events, 3)

    assert snapshot.kind == "snapshot"
    assert snapshot.id == "1"
    assert snapshot.data["revision"] == 1
    assert snapshot.ids == ["a"]
    assert [event.kind for event in changes] == ["change"] * 3
    assert [event.data["kind"] for event in changes] == ["up", "changed", "down"]
    assert [event.id for event in changes] == ["2", "4", "5"]
    assert [event.data["revision"] for event in changes] == [2, 4, 5]
    assert changes[0].data["instance"]["zone"] == "z"
    assert changes[1].data["instance"]["health"] == "critical"
    assert changes[1].data["instance"]["why"] == "w"
    assert all(event.data["at_ms"] > 0 for event in changes)


@pytest.mark.parametrize("by_header", [True, False])
@served
async def test_a_reader_that_comes_back_is_told_what_it_missed_and_no_more(
    world: World, by_header: bool
) -> None:
    for name in "abc":
        await world.register("web", name)
    # A browser that reconnects sends the first URL again, and its cursor in the header.
    query, header = ("?service=web&since=1", "2") if by_header else ("?service=web&since=2", None)

    async with watching(world, query, header) as events:
        (missed,) = await take(events)
        await world.register("web", "d")
        (fresh,) = await take(events)

    assert missed.data["instance"]["id"] == "c"
    assert missed.id == "3"
    assert fresh.data["instance"]["id"] == "d"


@served
async def test_a_reader_that_missed_nothing_is_told_so(world: World) -> None:
    await world.register("web", "a")
    await world.register("other", "a")

    async with watching(world, "?service=web&since=1") as events:
        (bookmark,) = await take(events)

    assert bookmark == Event("bookmark", "2", {"revision": 2})


@served
async def test_a_cursor_of_another_registry_gets_a_snapshot(world: World) -> None:
    await world.register("web", "a")

    async with watching(world, "?service=web&since=1000") as events:
        (snapshot,) = await take(events)

    assert (snapshot.kind, snapshot.id) == ("snapshot", "1")


@served
async def test_an_unknown_service_can_be_watched(world: World) -> None:
    async with watching(world, "?service=web") as events:
        (snapshot,) = await take(events)
        await world.register("web", "a")
        (change,) = await take(events)

    assert snapshot.data == {"revision": 0, "instances": []}
    assert change.data["kind"] == "up"


@served
async def test_several_services_share_one_stream_and_one_order(world: World) -> None:
    await world.register("a", "1")
    await world.register("b", "1")
    await world.register("c", "1")
    async with watching(world, "?service=a&service=team%2Fc&service=b&service=a") as events:
        (snapshot,) = await take(events)
        for service in ("b", "c", "a", "team/c", "b"):
            await world.register(service, "2", zone=service[0])
            await world.delete(of(service) + "/instances/2")
        changes = await take(events, 8)

    assert sorted(i["service"] for i in snapshot.data["instances"]) == ["a", "b"]
    told = [(event.data["instance"]["service"], event.data["kind"]) for event in changes]
    assert told == [
        (service, kind) for service in ("b", "a", "team/c", "b") for kind in ("up", "down")
    ]
    ids = [int(event.id) for event in changes]
    assert ids == sorted(set(ids))


@served
async def test_without_a_service_every_one_is_watched(world: World) -> None:
    async with watching(world) as events:
        await take(events)
        await world.register("a", "1")
        await world.register("team/b", "1")
        changes = await take(events, 2)

    assert [event.data["instance"]["service"] for event in changes] == ["a", "team/b"]


@served
async def test_only_the_last_change_of_a_revision_can_be_resumed_from(world: World) -> None:
    items = [
        {"op": "register", "service": "web", "id": name, "host": "h", "port": 1, "ttl": 0}
        for name in "abc"
    ]
    async with watching(world, "?service=web") as events:
        await take(events)
        await world.post("/api/v1/batch", {"items": items}, 200)
        changes = await take(events, 3)

    assert [event.id for event in changes] == ["", "", "1"]
    assert [event.data["revision"] for event in changes] == [1, 1, 1]


@served
async def test_a_bookmark_is_sent_to_a_reader_for_whom_nothing_changes(world: World) -> None:
    async with watching(world, "?service=web") as events:
        await take(events)
        await world.register("other", "a")
        world.node.watches.bookmark()
        (bookmark,) = await take(events)

    assert bookmark == Event("bookmark", "1", {"revision": 1})


@served
async def test_readers_of_some_services_hear_of_the_revision_while_others_change(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "BOOKMARK_S", 0.0)
    async with watching(world, "?service=a&service=b") as events:
        await take(events)
        await world.register("other", "x")
        (bookmark,) = await take(events)

    assert bookmark == Event("bookmark", "1", {"revision": 1})


@served
async def test_a_large_snapshot_arrives_whole(world: World) -> None:
    items = [
        {
            "op": "register",
            "service": "web",
            "id": f"i-{number}",
            "host": "h",
            "port": 1,
            "ttl": 0,
            "meta": {"k": "v" * 500},
        }
        for number in range(1000)
    ]
    await world.post("/api/v1/batch", {"items": items}, 200)

    async with watching(world, "?service=web") as events:
        (snapshot,) = await take(events)

    assert sorted(snapshot.ids) == sorted(item["id"] for item in items)


BIG = {f"key-{number}": "x" * 500 for number in range(64)}
CHANGES = 1000


@served
async def test_a_slow_reader_is_given_the_latest_state_and_not_a_backlog(world: World) -> None:
    await world.register("web", "a", meta=BIG)
    loop = asyncio.get_running_loop()
    async with unread((world.host, world.port)) as reader:
        await until(lambda: len(world.node.watches) == 1)

        for number in range(CHANGES):
            await world.registry.set_health("web", "a", "passing", f"n-{number}")
        await world.registry.set_health("web", "a", "critical", "the last")

        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        received = bytearray()
        async with asyncio.timeout(30):
            while b"the last" not in received[-100_000:]:
                received += await loop.sock_recv(reader, 1 << 20)

    assert world.node.watches.coalesced > 0
    assert received.count(b"event: change") < CHANGES * 0.7
    seen = [int(part.partition(b'"')[0]) for part in received.split(b'"why":"n-')[1:]]
    assert seen == sorted(set(seen))


@served
async def test_streams_are_limited_and_a_place_becomes_free_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "STREAMS_MAX", 2)
    async with watching(world) as first:
        async with watching(world) as second:
            await take(first)
            await take(second)
            refused = await world.ask("GET", "/api/v1/watch", 503)
            assert refused.json()["code"] == "overloaded"
            assert refused.headers["retry-after"] == "5"
        await until(lambda: len(world.node.watches) == 1)
        async with watching(world) as third:
            await take(third)


@served
async def test_a_reader_that_leaves_is_forgotten(world: World) -> None:
    async with watching(world) as events:
        await take(events)
        assert len(world.node.watches) == 1

    await until(lambda: len(world.node.watches) == 0)
    metrics = (await world.ask("GET", "/metrics", 200)).text
    assert "\nwaypost_http_streams 0\n" in metrics


@served
async def test_stopping_ends_every_stream_at_once(world: World) -> None:
    loop = asyncio.get_running_loop()
    async with watching(world) as events, watching(world, "?service=a&service=b") as others:
        await take(events)
        await take(others)
        started = loop.time()
        await world.server.stop()
        assert loop.time() - started < 2
        assert [event async for event in events] == []
        assert [event async for event in others] == []


@served
async def test_a_reader_that_does_not_read_cannot_keep_the_server_from_stopping(
    world: World,
) -> None:
    await world.register("web", "a", meta=BIG)
    loop = asyncio.get_running_loop()
    async with unread((world.host, world.port)):
        await until(lambda: len(world.node.watches) == 1)
        for number in range(3000):
            await world.registry.set_health("web", "a", "passing", f"n-{number}")
            if is_lagging(world):
                break
        assert is_lagging(world)

        started = loop.time()
        await world.server.stop()

        assert loop.time() - started < 3
        assert len(world.node.watches) == 0


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has this option")
@served
async def test_a_reader_that_never_reads_is_let_go(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.register("web", "a", meta=BIG)
    monkeypatch.setattr(server, "UNREAD_MS", 300)
    impatient = server.HttpServer(world.registry, "127.0.0.1", 0)
    address = await impatient.start()
    async with unread(address):
        await until(lambda: len(world.node.watches) == 1)
        for number in range(200):
            await world.registry.set_health("web", "a", "passing", f"n-{number}")

        await until(lambda: len(world.node.watches) == 0)
    await impatient.stop()


@served
async def test_many_streams_are_told_the_same(world: World) -> None:
    async with AsyncExitStack() as stack:

        async def open_five(query: str) -> list[AsyncIterator[Event]]:
            return [await stack.enter_async_context(watching(world, query)) for _ in range(5)]

        alone = await open_five("?service=web")
        everything = await open_five("")
        some = await open_five("?service=web&service=api")
        for events in (*alone, *everything, *some):
            await take(events)
        for name in "ab":
            await world.register("web", name)
            await world.register("other", name)
        told = [await take(events, 2) for events in alone]
        told_all = [await take(events, 4) for events in everything]
        told_some = [await take(events, 2) for events in some]

    assert all(each == told[0] for each in (*told, *told_some))
    assert all(each == told_all[0] for each in told_all)
    assert told_all[0][::2] == told[0]


def is_lagging(world: World) -> bool:
    watchers = world.node.watches._by_service["web"]
    return any(watcher.is_lagging for watcher in watchers)
