"""Watches as server-sent events (WHATWG HTML, section 9.2).

A stream is written no faster than its reader reads: each write waits until the one before has left
for the socket, and what changes meanwhile is coalesced by the registry's feed.  So a reader that
does not read costs one piece of ``PIECE_BYTES`` and what the kernel buffers; the kernel drops the
connection when nothing of that is taken for a while (``server.UNREAD_MS``).

Every event that completes a revision carries it as its ``id``: a reader that comes back with it (as
``Last-Event-ID``, which browsers do by themselves) is told what it missed, and no more.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Collection, Iterator
from typing import Final

import msgspec
from starlette.types import Receive, Scope, Send

from waypost.errors import Overloaded
from waypost.model import Change, Record, Revision
from waypost.node.feed import FeedItem
from waypost.servers.http.bodies import ChangeEvent
from waypost.views import instance_view
from waypost.wire import Changes, Snapshot

log = logging.getLogger("waypost.http")

STREAMS_MAX: Final = 1024
PIECE_BYTES: Final = 65_536
BOOKMARK_S: Final = 10.0
"""No reader of some services waits longer for a bookmark while others change."""
RECONNECT_MS: Final = 1000
_RECORDS_AT_ONCE: Final = 200
_GOODBYE_S: Final = 0.2

_encode = msgspec.json.Encoder().encode


class Streams:
    """Who is streaming, up to ``STREAMS_MAX``; and the word that all must end."""

    def __init__(self) -> None:
        self.open = 0
        self.closing = asyncio.Event()
        self._latest: tuple[list[Change], bytes] = ([], b"")

    def encoded(self, revision: Revision, changes: list[Change]) -> bytes:
        """What changed, as events: encoded once for all streams that are told the same."""
        if changes is not self._latest[0]:
            self._latest = (changes, b"".join(_changes(revision, changes)))
        return self._latest[1]

    def admit(self) -> None:
        """Raise ``Overloaded`` unless one more may begin."""
        if self.open >= STREAMS_MAX:
            raise Overloaded(
                f"{self.open} event streams are open, the most that one node serves: watch at "
                "another node, or share one stream",
                retry_after=5.0,
            )


class EventStream:
    """One stream: an ASGI response that has no end of its own."""

    status_code: Final = 200

    def __init__(
        self,
        streams: Streams,
        items: AsyncGenerator[FeedItem],
        first: FeedItem,
        services: Collection[str],
    ) -> None:
        """Begin with ``first``; with ``services``, tell of these only."""
        self._streams = streams
        self._items = items
        self._first = first
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send events until the reader leaves or the server stops."""
        self._streams.open += 1
        tasks = [
            asyncio.create_task(work)
            for work in (self._write(send), _gone(receive), self._streams.closing.wait())
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._streams.open -= 1
            for task in tasks:
                task.cancel()
            written, *_ = await asyncio.gather(*tasks, return_exceptions=True)
            await self._items.aclose()
        if isinstance(written, Exception):
            log.error("an event stream ended by our own mistake", exc_info=written)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # or nginx keeps events to itself
        ]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        loop = asyncio.get_running_loop()
        await _send(send, b"retry: %d\n\n" % RECONNECT_MS)
        sent_at = loop.time()
        item = self._first
        while True:
            for piece in _pieces(self._events(item)):
                await _send(send, piece)
                await asyncio.sleep(0)  # others have their turn between the pieces of a large one
                sent_at = loop.time()
            if loop.time() - sent_at >= BOOKMARK_S and isinstance(item, Changes):
                await _send(send, _bookmark(item.revision))
                sent_at = loop.time()
            item = await anext(self._items)

    def _events(self, item: FeedItem) -> Iterator[bytes]:
        if isinstance(item, Snapshot):
            yield from _snapshot(item.revision, self._wanted(item.records))
        elif isinstance(item, Changes):
            if self._services:
                yield from _changes(item.revision, self._wanted_of(item.changes))
            else:
                yield self._streams.encoded(item.revision, item.changes)
        else:
            yield _bookmark(item)

    def _wanted(self, records: list[Record]) -> list[Record]:
        if not self._services:
            return records
        return [record for record in records if record.instance.service in self._services]

    def _wanted_of(self, changes: list[Change]) -> list[Change]:
        return [c for c in changes if c.record.instance.service in self._services]


def _snapshot(revision: Revision, records: list[Record]) -> Iterator[bytes]:
    yield b'event: snapshot\nid: %d\ndata: {"revision":%d,"instances":[' % (revision, revision)
    for start in range(0, len(records), _RECORDS_AT_ONCE):
        views = [instance_view(record) for record in records[start : start + _RECORDS_AT_ONCE]]
        yield (b"," if start else b"") + _encode(views)[1:-1]
    yield b"]}\n\n"


def _changes(revision: Revision, changes: list[Change]) -> Iterator[bytes]:
    """One event for each; only the last of a revision has an id, so none of it can be missed."""
    for position, change in enumerate(changes, 1):
        is_last = position == len(changes)
        view = instance_view(change.record)
        data = _encode(ChangeEvent(change.revision, change.kind, change.at_ms, view))
        if is_last or changes[position].revision != change.revision:
            id_ = revision if is_last else change.revision
            yield b"event: change\nid: %d\ndata: %b\n\n" % (id_, data)
        else:
            yield b"event: change\ndata: %b\n\n" % data


def _bookmark(revision: Revision) -> bytes:
    return b'event: bookmark\nid: %d\ndata: {"revision":%d}\n\n' % (revision, revision)


def _pieces(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Join small parts, so that a write is worth its while."""
    held: list[bytes] = []
    size = 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size >= PIECE_BYTES:
            yield b"".join(held)
            held.clear()
            size = 0
    if held:
        yield b"".join(held)


async def _send(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
