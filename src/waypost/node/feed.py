"""A watch for one who reads at its own pace: the next thing to know, when there is one.

Holds at most one pending item beyond what the reader took; whatever changes meanwhile is fetched
from the history when the reader comes back, coalesced.  So a reader that never comes back costs a
cursor and one item.
"""

import asyncio
from typing import Final

from waypost.model import Record
from waypost.node.watches import Burst, Watches
from waypost.wire import Changes, Snapshot

_PENDING_CHANGES_MAX: Final = 256

FeedItem = Snapshot | Changes | int
"""A snapshot, changes, or (a bare revision) a bookmark."""


class Feed:
    """One such reader."""

    def __init__(self, watches: Watches, service: str, since: int) -> None:
        self._watches = watches
        self._pending: list[FeedItem] = []
        self._pending_changes = 0
        self._wake = asyncio.Event()
        self._watcher = watches.begin(service, self, since, confirms=False)

    @property
    def is_slow(self) -> bool:
        """Whether it should be told nothing until it has taken what is pending."""
        return self._pending_changes >= _PENDING_CHANGES_MAX

    def send_snapshot(self, revision: int, records: list[Record]) -> None:
        """Everything, as of ``revision``: what was pending is part of it."""
        self._pending = [Snapshot(revision, records)]
        self._pending_changes = _PENDING_CHANGES_MAX
        self._wake.set()

    def send_burst(self, burst: Burst) -> None:
        """What changed."""
        self._pending.append(Changes(burst.revision, burst.changes))
        self._pending_changes += len(burst.changes)
        self._wake.set()

    def send_bookmark(self, revision: int) -> None:
        """Nothing changed up to ``revision``."""
        if not self._pending:
            self._pending.append(revision)
            self._wake.set()

    async def take(self) -> FeedItem:
        """The next item; waits for one."""
        while not self._pending:
            self._wake.clear()
            await self._wake.wait()
        item = self._pending.pop(0)
        if not self._pending:
            self._pending_changes = 0
            self._watches.catch_up(self._watcher)
        return item

    def close(self) -> None:
        """Stop watching."""
        self._watches.end(self._watcher)
