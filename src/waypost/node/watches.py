"""Fan-out: every change to everyone who watches the service, each once, in order.

What a batch changed is one ``Burst`` per service; each door encodes it once, however many watch.
A watcher whose reader is slow is sent nothing while its buffer is full; when it drains it is
brought up to date by the latest state of what it missed, or by a snapshot if that is shorter.  So
the server holds one cursor per watcher, not a queue.

The drain barrier stands here too: a watcher confirms what it has applied, and a drain waits until
every watcher of the service has confirmed its revision.

A watcher that comes from another node may be ahead of the catalog: it is told nothing that it
knows, and never taken back.

Invariant: a watcher that is not lagging has been given everything up to the catalog's revision.
"""

import asyncio
from collections.abc import Iterator
from typing import Any, Final, Protocol

from waypost.catalog.state import Catalog
from waypost.model import Change, Record

ALL: Final = ""
"""Watches with this for a service see every service."""


class Burst:
    """What one log entry changed of what somebody watches; encoded once per door."""

    __slots__ = ("changes", "encoded", "revision")

    def __init__(self, revision: int, changes: list[Change]) -> None:
        self.revision = revision
        self.changes = changes
        self.encoded: dict[str, Any] = {}


class Reader(Protocol):
    """Whom a watch tells: a door's side of it."""

    @property
    def is_slow(self) -> bool:
        """Its buffer is full: tell it nothing until it asks to ``catch_up``."""
        ...

    def send_snapshot(self, revision: int, records: list[Record]) -> None:
        """Everything, as of ``revision``."""
        ...

    def send_burst(self, burst: Burst) -> None:
        """What changed, up to and with ``burst.revision``."""
        ...

    def send_bookmark(self, revision: int) -> None:
        """Nothing of yours changed up to ``revision``."""
        ...


class Watcher:
    """One watch: who reads it, and how far it has come."""

    __slots__ = ("confirms", "is_lagging", "reader", "seen", "sent", "service")

    def __init__(self, service: str, reader: Reader, *, confirms: bool) -> None:
        self.service = service
        self.reader = reader
        self.confirms = confirms
        """Whether it says what it has applied; one that does not counts by what it was sent."""
        self.sent = 0
        self.seen = 0
        self.is_lagging = False


class _Barrier:
    __slots__ = ("done", "revision", "waiting")

    def __init__(self, revision: int, waiting: set[Watcher], done: "asyncio.Future[None]") -> None:
        self.revision = revision
        self.waiting = waiting
        self.done = done


class Watches:
    """Everyone who watches at this node."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._by_service: dict[str, dict[Watcher, None]] = {}
        self._barriers: list[_Barrier] = []
        self.coalesced = 0
        """Times that a slow reader was brought up to date at once."""

    def __len__(self) -> int:
        return sum(map(len, self._by_service.values()))

    def begin(
        self,
        service: str,
        reader: Reader,
        since: int,
        *,
        confirms: bool,
        may_be_ahead: bool = False,
    ) -> Watcher:
        """Start a watch: bring the reader up to the catalog's revision, then keep it there.

        It ``may_be_ahead`` if other nodes have the same data, and ``since`` may come from them.
        """
        watcher = Watcher(service, reader, confirms=confirms)
        self._by_service.setdefault(service, {})[watcher] = None
        if since > self._catalog.revision and may_be_ahead:
            watcher.sent = since
            reader.send_bookmark(since)
        elif 0 < since <= self._catalog.revision:
            watcher.sent = watcher.seen = since
            self._bring_up(watcher)
        else:  # from another life of this data set, if it names a revision that is yet to come
            self._send_snapshot(watcher)
        return watcher

    def replace(self, catalog: Catalog) -> None:
        """The catalog jumped ahead: everyone is brought up to it, by a snapshot."""
        self._catalog = catalog
        for watcher in [each for watchers in self._by_service.values() for each in watchers]:
            if watcher.reader.is_slow:
                watcher.is_lagging = True
            else:
                watcher.is_lagging = False
                self._bring_up(watcher)

    def end(self, watcher: Watcher) -> None:
        """Stop a watch; ending it twice does nothing."""
        watchers = self._by_service.get(watcher.service)
        if watchers is not None:
            watchers.pop(watcher, None)
            if not watchers:
                del self._by_service[watcher.service]
        for barrier in self._barriers:
            barrier.waiting.discard(watcher)
        self._release()

    def publish(self, revision: int, changed: dict[str, list[Change]]) -> None:
        """Tell everyone concerned what the entry at ``revision`` changed."""
        by_service = self._by_service
        for service, changes in changed.items():
            watchers = by_service.get(service)
            if watchers and service != ALL:
                self._tell(watchers, Burst(revision, changes))
        watchers = by_service.get(ALL)
        if watchers and changed:
            every = [change for changes in changed.values() for change in changes]
            self._tell(watchers, Burst(revision, every))

    def _tell(self, watchers: dict[Watcher, None], burst: Burst) -> None:
        for watcher in watchers:
            reader = watcher.reader
            if watcher.is_lagging or reader.is_slow:
                watcher.is_lagging = True
            elif watcher.sent < burst.revision:
                reader.send_burst(burst)
                watcher.sent = burst.revision

    def catch_up(self, watcher: Watcher) -> None:
        """Its reader can take more: give it what it missed, coalesced."""
        if watcher.is_lagging:
            watcher.is_lagging = False
            self.coalesced += 1
            self._bring_up(watcher)
            if not watcher.confirms:
                self.confirmed(watcher, watcher.sent)

    def bookmark(self) -> None:
        """Let every idle watcher know how far it is up to date, so that it can resume there."""
        revision = self._catalog.revision
        for watchers in self._by_service.values():
            for watcher in watchers:
                if not watcher.is_lagging and not watcher.reader.is_slow:
                    watcher.sent = max(watcher.sent, revision)
                    watcher.reader.send_bookmark(watcher.sent)

    def confirmed(self, watcher: Watcher, revision: int) -> None:
        """The reader has applied everything up to ``revision``."""
        watcher.seen = max(watcher.seen, revision)
        if self._barriers:
            for barrier in self._barriers:
                if watcher.seen >= barrier.revision:
                    barrier.waiting.discard(watcher)
            self._release()

    async def all_seen(self, service: str, revision: int, timeout_s: float) -> tuple[int, int]:
        """Wait until every watcher of the service has applied ``revision``.

        Returns how many watch, and how many of them had not confirmed when time was up.
        """
        watchers = [*self._by_service.get(service, ()), *self._by_service.get(ALL, ())]
        waiting = {w for w in watchers if (w.seen if w.confirms else w.sent) < revision}
        if not waiting:
            return len(watchers), 0
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        barrier = _Barrier(revision, waiting, done)
        self._barriers.append(barrier)
        try:
            async with asyncio.timeout(timeout_s):
                await done
        except TimeoutError:
            pass
        finally:
            if barrier in self._barriers:
                self._barriers.remove(barrier)
        return len(watchers), len(barrier.waiting)

    def _bring_up(self, watcher: Watcher) -> None:
        if watcher.sent > self._catalog.revision:
            return
        if watcher.service == ALL:
            changes = self._catalog.since_all(watcher.sent)
        else:
            changes = self._catalog.since(watcher.service, watcher.sent)
        if changes is None:
            self._send_snapshot(watcher)
            return
        latest = _coalesced(changes)
        if len(latest) > 64 and len(latest) > self._size(watcher.service):
            self._send_snapshot(watcher)
            return
        watcher.sent = self._catalog.revision
        if latest:
            watcher.reader.send_burst(Burst(watcher.sent, latest))
        else:
            watcher.reader.send_bookmark(watcher.sent)

    def _send_snapshot(self, watcher: Watcher) -> None:
        watcher.sent = self._catalog.revision
        watcher.reader.send_snapshot(watcher.sent, list(self._records(watcher.service)))

    def _records(self, service: str) -> Iterator[Record]:
        names = self._catalog.service_names() if service == ALL else (service,)
        for name in names:
            instances = self._catalog.service(name)
            if instances is not None:
                yield from instances.values()

    def _size(self, service: str) -> int:
        if service == ALL:
            return self._catalog.instance_count
        return len(self._catalog.service(service) or ())

    def _release(self) -> None:
        for barrier in list(self._barriers):
            if not barrier.waiting and not barrier.done.done():
                barrier.done.set_result(None)


def _coalesced(changes: list[Change]) -> list[Change]:
    """Only the latest change of each instance, in the order in which those came."""
    latest: dict[tuple[str, str], Change] = {}
    for change in changes:
        instance = change.record.instance
        key = (instance.service, instance.id)
        latest.pop(key, None)
        latest[key] = change
    return list(latest.values())
