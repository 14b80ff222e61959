"""Tests as stories: coroutines that are told on the loop of the cluster that they are about."""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.contract.clusters import Cluster
from tests.servers.native.peer import Peer

from waypost import wire
from waypost.client.registry import Registry
from waypost.model import Change


def told(test: Callable[..., Any]) -> Callable[..., None]:
    """Make a test of a coroutine that takes ``cluster`` or ``rough``."""

    @functools.wraps(test)
    def run(**given: Any) -> None:
        cluster: Cluster = given.get("cluster") or given["rough"]
        cluster.run(test(**given))

    return run


@asynccontextmanager
async def following(registry: Registry, service: str) -> AsyncIterator["Follower"]:
    """A watch of the client library that has had its snapshot."""
    async with registry.watch(service) as watch:
        await watch.ready()
        yield Follower(watch.__anext__, lambda _: None)  # it confirms by itself


class Follower:
    """Takes what a watch tells, and keeps it."""

    def __init__(
        self, take: Callable[[], Awaitable[Change]], confirm: Callable[[int], None]
    ) -> None:
        self._take = take
        self.confirm = confirm
        """Tells the node up to which revision everything was taken in."""
        self.changes: list[Change] = []

    async def next(self) -> Change:
        """The next change."""
        change = await self._take()
        self.changes.append(change)
        return change

    async def until(self, kind: str, instance_id: str = "") -> Change:
        """The next change of a kind, of an instance."""
        while True:
            change = await self.next()
            if change.kind == kind and instance_id in ("", change.record.instance.id):
                return change

    @property
    def kinds(self) -> list[str]:
        """Of all that was told."""
        return [change.kind for change in self.changes]


async def watched(peer: Peer, service: str, since: int = 0) -> Follower:
    """Watch over a raw connection: only what comes after the snapshot, exactly as it comes."""
    asked = peer.ask(wire.WATCH, wire.Watch(service, since))
    waiting: list[Change] = []
    if not since:
        wire.decode_snapshot(await peer.hear(wire.SNAPSHOT, asked))

    async def take() -> Change:
        while not waiting:
            kind, _, body = await peer.frame()
            assert kind in (wire.CHANGES, wire.BOOKMARK), kind
            if kind == wire.CHANGES:
                waiting.extend(wire.decode_changes(body).changes)
        return waiting.pop(0)

    return Follower(take, lambda revision: peer.say(wire.SEEN, asked, revision))
