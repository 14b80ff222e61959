"""Views that are kept current, and those who follow them.

All who ask for the same service share one watch at the registry.  A new connection goes on where
the old one stopped; while there is none, what is known is served on.  What has been applied, by
every follower, is confirmed to the registry, at most once per turn of the event loop: a provider
that drains waits for it.

A follower that is slow to read gets the latest state of what it missed: the diff between what it
was told and what is known, so that nobody's backlog grows without bound.
"""

import asyncio
import logging
import time
from collections import deque
from types import TracebackType
from typing import Final, Self

from waypost import wire
from waypost.client.connection import Connection, error_of
from waypost.client.lastknown import Known, LastKnown
from waypost.client.link import Link
from waypost.client.view import Key, diff
from waypost.client.watched import Watched
from waypost.errors import Unavailable, WaypostError
from waypost.model import Change, Record, Revision, ServiceName, Source

log = logging.getLogger("waypost")

PENDING_MAX: Final = 4096
REWATCH_S: Final = 0.5
REST: Final = 10
REST_FROM_S: Final = 0.001
"""A view that took longer to refresh rests for ``REST`` times what it took: one of ten thousand
instances that change all the time takes a tenth of this process, and is a tenth of a second behind.
"""
HOLD_S: Final = 5.0
"""How long after the registry lost its data an instance may take to register again."""
REFRESH_S: Final = 60.0
"""How often the time on disk is renewed although nothing changes."""


class Watching:
    """All that one client watches."""

    def __init__(self, last_known: LastKnown) -> None:
        self.link: Link
        """Set by the registry, which makes the two of them."""
        self._last_known = last_known
        self._connection: Connection | None = None
        self._watched: dict[ServiceName, Watched] = {}
        self._by_id: dict[int, Watched] = {}
        self._loop = asyncio.get_running_loop()

    def watched(self, service: ServiceName) -> Watched:
        """Find a service's view, or begin one."""
        watched = self._watched.get(service)
        if watched is None:
            watched = self._watched[service] = Watched(service, self)
            self._begin(watched)
        return watched

    def find(self, service: ServiceName) -> Watched | None:
        """Find a service's view, if there is one that knows anything."""
        watched = self._watched.get(service)
        return None if watched is None or watched.view.source is None else watched

    def is_behind(self, service: ServiceName, revision: Revision) -> bool:
        """Whether a live view of the service may not show that revision yet."""
        return any(
            watched is not None
            and watched.view.source == "follower"
            and watched.view.revision < revision
            for watched in (self._watched.get(service), self._watched.get(""))
        )

    def heard_at_ms(self) -> int:
        """Unix time, in milliseconds, at which the registry was last heard; 0 if not connected."""
        if self._connection is None:
            return 0
        ago_s = self._loop.time() - self._connection.heard_at
        return int((time.time() - ago_s) * 1000)

    async def ready(self, watched: Watched, timeout_s: float) -> None:
        """Wait until something is known of it, or raise why nothing is."""
        if watched.view.source is not None:
            return
        try:
            async with asyncio.timeout(timeout_s):
                while watched.view.source is None:
                    if watched.error is not None:
                        raise watched.error
                    await self._answer_of(watched)
        except TimeoutError:
            self._recall(watched)
            if watched.view.source is None:
                raise Unavailable(
                    f"{watched.service or 'all services'}: the registry did not answer the watch "
                    f"within {timeout_s:g} s"
                ) from None

    async def _answer_of(self, watched: Watched) -> None:
        try:
            await self.link.connected(patient=False)
        except Unavailable:
            self._recall(watched)
            if watched.view.source is None:
                await self.link.connected()
        if watched.view.source is None and watched.error is None:
            await watched.changed.wait()

    def _recall(self, watched: Watched) -> None:
        """No registry answers: take what was last known, if anything was."""
        recalled = self._last_known.recall(watched.service) if watched.service else None
        if recalled is not None and watched.view.source is None:
            known, source = recalled
            watched.as_of_ms = known.as_of_ms
            self._tell(watched, watched.view.load(known.cluster, known.records, source))

    # The link tells

    def connected(self, connection: Connection) -> None:
        """Go on with every watch, on this connection."""
        self._note_time()
        if self._connection is not None:
            self._connection.on_event = _ignore
        self._connection = connection
        connection.on_event = self._take
        self._by_id.clear()
        for watched in list(self._watched.values()):
            watched.watch_id = 0
            self._begin(watched)

    def disconnected(self) -> None:
        """Serve on what is known."""
        self._note_time()
        self._connection = None
        self._by_id.clear()
        for watched in self._watched.values():
            watched.watch_id = 0
            watched.view.lost()
            if watched.hold is not None:
                watched.hold.cancel()
                watched.hold = None

    def close(self) -> None:
        """End every watch; whoever waits for a change hears that there will be none."""
        for watched in list(self._watched.values()):
            self.settle(watched, at_any_cost=True)
        self.disconnected()
        for watched in self._watched.values():
            for watch in list(watched.watches):
                watch.close()
        self._watched.clear()

    # Events

    def _begin(self, watched: Watched) -> None:
        connection = self._connection
        if connection is None or watched.watch_id or watched.error is not None:
            return
        watched.parts = []
        watched.watch_id = connection.next_id()
        self._by_id[watched.watch_id] = watched
        since = watched.view.resume_at(connection.welcome.cluster)
        body = wire.encode(wire.Watch(watched.service, since))
        connection.say(wire.WATCH, watched.watch_id, body)

    def _take(self, kind: int, watch_id: int, body: bytes) -> None:
        watched = self._by_id.get(watch_id)
        if watched is None or self._connection is None:
            return  # ended, and this was on its way
        view = watched.view
        cluster = self._connection.welcome.cluster
        match kind:
            case wire.SNAPSHOT:
                snapshot = wire.decode_snapshot(body)
                watched.parts += snapshot.records
                if snapshot.more:
                    return
                parts, watched.parts = watched.parts, []
                told = view.replace(cluster, snapshot.revision, parts)
            case wire.CHANGES:
                changes = wire.decode_changes(body)
                told = view.apply(changes.revision, changes.changes)
            case wire.BOOKMARK:
                view.confirm(wire.decode_number(body))
                told = []
            case _:
                self._refused(watched, error_of(wire.decode_fault(body)))
                return
        if view.held and watched.hold is None:
            watched.hold = self._loop.call_later(HOLD_S, self._lapse, watched)
        self._tell(watched, told)

    def _tell(self, watched: Watched, told: list[Change]) -> None:
        if told:
            watched.saved_at = 0.0
        if watched.due is None:
            # Scheduled before anybody is woken, so that views are current when users run.
            if self._loop.time() < watched.rests_until:
                watched.due = self._loop.call_at(watched.rests_until, self._settle, watched)
            else:
                watched.due = self._loop.call_soon(self._settle, watched)
        for watch in list(watched.watches):
            watch.tell(told)
        watched.changed.set()
        watched.changed.clear()

    def settle(self, watched: Watched, *, at_any_cost: bool) -> None:
        """Settle it now rather than in a moment; one that rests only ``at_any_cost``."""
        if watched.due is not None and (at_any_cost or self._loop.time() >= watched.rests_until):
            watched.due.cancel()
            self._settle(watched)

    def _settle(self, watched: Watched) -> None:
        """Let the views take what changed; then save it and confirm it."""
        watched.due = None
        began = self._loop.time()
        for refresh in watched.refreshes:
            refresh()
        took_s = self._loop.time() - began
        watched.rests_until = began + REST * took_s if took_s > REST_FROM_S else began
        self._save(watched)
        if watched.watch_id and self._connection is not None:
            if watched.is_followed:
                body = wire.encode(watched.view.revision)
                self._connection.say(wire.SEEN, watched.watch_id, body)
            else:
                self._end(watched)

    def _end(self, watched: Watched) -> None:
        assert self._connection is not None
        self._connection.say(wire.UNWATCH, watched.watch_id)
        del self._by_id[watched.watch_id]
        del self._watched[watched.service]

    def _lapse(self, watched: Watched) -> None:
        watched.hold = None
        self._tell(watched, watched.view.lapse())

    def _refused(self, watched: Watched, error: WaypostError) -> None:
        del self._by_id[watched.watch_id]
        watched.watch_id = 0
        if error.retryable:
            log.info("watching %r: %s", watched.service, error)
            self._loop.call_later(REWATCH_S, self._begin, watched)
            return
        watched.error = error
        for watch in list(watched.watches):
            watch.tell([])
        watched.changed.set()
        watched.changed.clear()

    # What is kept for later

    def _save(self, watched: Watched) -> None:
        now = self._loop.time()
        if watched.view.source != "follower" or not watched.service:
            return
        if not watched.saved_at or now - watched.saved_at > REFRESH_S:
            watched.saved_at = now
            self._last_known.write_later(watched.service, lambda: self._known(watched))

    def _known(self, watched: Watched) -> Known:
        view = watched.view
        records: list[Record] = list(view.records.values())
        return self._last_known.known(
            watched.service, view.cluster, watched.current_at_ms(), records
        )

    def _note_time(self) -> None:
        heard_at_ms = self.heard_at_ms()
        for watched in self._watched.values():
            if watched.view.source == "follower" and heard_at_ms:
                watched.as_of_ms = heard_at_ms


class Watch:
    """Every change of a service (or of all): first what is there, as ``up``, then what happens.

    Each change comes once and in order, whatever happens to the connection meanwhile; one that
    happened while this client could not hear of it comes afterwards, with ``at_ms`` of 0 if it went
    and nobody can tell when.  Iterate over it from one task; it ends when it is closed.
    """

    def __init__(self, watched: Watched, timeout_s: float) -> None:
        self._watched = watched
        self._timeout_s = timeout_s
        self._known: dict[Key, Record] = {}
        """As of the last change that was taken."""
        self._pending: deque[Change] = deque()
        self._is_behind = False
        """There was too much to keep: what is to come is the diff between what is known and the
        view, at the time when it is asked for."""
        self._is_closed = False
        self._told = asyncio.Event()
        watched.watches.add(self)
        self.tell(diff({}, watched.view.records, watched.view.revision))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        await self._fill()
        if not self._pending:
            raise StopAsyncIteration
        return self._pop()

    async def take(self) -> list[Change]:
        """Wait for a change and return all that can be had; an empty list is the end."""
        await self._fill()
        return [self._pop() for _ in range(len(self._pending))]

    async def ready(self) -> None:
        """Wait until it is known what is there, be it nothing; raises ``Unavailable``."""
        await self._watched.ready(self._timeout_s)

    @property
    def revision(self) -> Revision:
        """The revision up to which everything has been taken in."""
        return self._watched.view.revision

    @property
    def source(self) -> Source | None:
        """Where it comes from now: ``follower`` if live, else ``cache`` or ``disk``."""
        return self._watched.view.source

    @property
    def age(self) -> float:
        """Seconds since it was last known to be current."""
        return self._watched.age_s

    def close(self) -> None:
        """End it; ending it twice does nothing."""
        self._is_closed = True
        self._watched.watches.discard(self)
        self._pending.clear()
        self._told.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def tell(self, told: list[Change]) -> None:
        """Take what changed, for whoever iterates."""
        if not self._is_behind:
            if len(self._pending) + len(told) > PENDING_MAX:
                self._pending.clear()
                self._is_behind = True
            else:
                self._pending.extend(told)
        self._told.set()

    async def _fill(self) -> None:
        view = self._watched.view
        while not self._pending and not self._is_closed:
            if self._watched.error is not None:
                raise self._watched.error
            if view.source is None:
                await self.ready()
            elif self._is_behind:
                self._is_behind = False
                self._pending.extend(diff(self._known, view.records, view.revision))
            else:
                self._told.clear()
                await self._told.wait()
        self._watched.settle()  # who hears of a change finds it in the views

    def _pop(self) -> Change:
        change = self._pending.popleft()
        key = change.record.instance.service, change.record.instance.id
        if change.kind == "down":
            self._known.pop(key, None)
        else:
            self._known[key] = change.record
        return change


def _ignore(kind: int, frame_id: int, body: bytes) -> None:
    """Take an event of a connection that another one has replaced."""
