"""Queries that read all services: who is called what, who runs where, how everybody is.

A ``Table`` keeps a digest of each service and the revision at which that last changed.  It is
brought up to date when somebody asks, and, while somebody waits, a moment after each change; so
changes that a query does not read wake nobody, and a table that nobody reads costs nothing.

A service that went moves the index to the revision of the moment: not below that at which it went.
"""

import asyncio
from collections.abc import Callable, Hashable
from typing import Final

from waypost.catalog.directory import Directory
from waypost.model import Record, Revision, ServiceName
from waypost.node.registry import Registry
from waypost.node.watches import Burst
from waypost.servers.consul.blocking import Wake
from waypost.servers.consul.names import node_of

LOOK_S: Final = 0.01
"""Changes within this time are looked at together."""

Digest = Callable[[Directory, ServiceName], Hashable]


class Table:
    """One such reading of all services: a topic."""

    is_slow = False

    def __init__(self, registry: Registry, digest: Digest, others: Callable[[], Revision]) -> None:
        """``others``: the revision of what else it reads."""
        self._registry = registry
        self._digest = digest
        self._others = others
        self.rows: dict[ServiceName, Hashable] = {}
        """The digest of each service; up to date after ``refresh``."""
        self._revisions: dict[ServiceName, Revision] = {}
        self._index: Revision = 0
        self._seen: Revision = -1
        self._told: Revision = -1
        """The index that those who wait were last woken for."""
        self._wakes: dict[Wake, None] = {}
        self._stops: list[Callable[[], None]] = []
        self._look: asyncio.TimerHandle | None = None

    def refresh(self) -> None:
        """Bring it up to the catalog's revision."""
        catalog = self._registry.catalog
        if catalog.revision == self._seen:
            return
        is_first = self._seen < 0
        names = catalog.service_names()
        revisions, rows = self._revisions, self.rows
        for name in names:
            revision = catalog.service_revision(name) or 0
            if revisions.get(name) == revision:
                continue
            revisions[name] = revision
            digest = self._digest(catalog, name)
            if rows.get(name) != digest:
                rows[name] = digest
                self._index = max(self._index, revision)
        if len(revisions) != len(names) or is_first:
            for gone in revisions.keys() - set(names):
                del revisions[gone], rows[gone]
            # Of what went before we looked nothing is known: as if it were now.
            self._index = catalog.revision
        self._seen = catalog.revision

    # As a topic

    def index(self) -> Revision:
        """Of what it holds now."""
        self.refresh()
        return max(self._index, self._others())

    def has_changed(self, since: Revision) -> bool:
        """Whether it holds something else than at ``since``."""
        return self.index() > since

    def watch(self, wake: Wake) -> Callable[[], None]:
        """Be told of each change of it."""
        if not self._wakes:
            self._stops = [
                self._registry.listen("", self),
                self._registry.on_checks(lambda revision, services: self._soon()),  # noqa: ARG005
            ]
        self._wakes[wake] = None

        def unwatch() -> None:
            self._wakes.pop(wake, None)
            if not self._wakes:
                for stop in self._stops:
                    stop()
                self._stops = []

        return unwatch

    # As the reader of a watch of everything

    def send_snapshot(self, revision: int, records: list[Record]) -> None:  # noqa: ARG002
        """Something changed."""
        self._soon()

    def send_burst(self, burst: Burst) -> None:  # noqa: ARG002
        """Something changed."""
        self._soon()

    def send_bookmark(self, revision: int) -> None:
        """Nothing did."""

    def _soon(self) -> None:
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(LOOK_S, self._on_time)

    def _on_time(self) -> None:
        self._look = None
        index = self.index()
        if index != self._told:
            self._told = index
            for wake in list(self._wakes):
                wake()


def tags_digest(catalog: Directory, name: ServiceName) -> Hashable:
    """All tags of a service, sorted."""
    records = (catalog.service(name) or {}).values()
    return tuple(sorted({tag for record in records for tag in record.instance.tags}))


def nodes_digest(catalog: Directory, name: ServiceName) -> Hashable:
    """Where a service runs, and what would be the address there."""
    records = (catalog.service(name) or {}).values()
    return frozenset((node_of(record.instance), record.instance.host) for record in records)


def any_digest(catalog: Directory, name: ServiceName) -> Hashable:
    """Whatever changed."""
    return catalog.service_revision(name)
