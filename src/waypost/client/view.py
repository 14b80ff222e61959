"""What this client knows of a service (or of all), and what has to be told when that changes.

A view is given snapshots and changes as they come from one node or another, over however many
connections, and returns the changes that its user must hear: each once, in order, as if there had
been one uninterrupted watch.  Told twice, told out of date or told by a snapshot what is known
already: nothing is returned.

A registry that lost its data (an in-memory one that was restarted) comes back as another cluster
and knows nobody until the providers have registered again.  An instance that is missing from its
first snapshot is therefore kept for a while, and only told as gone if it has not returned by then:
consumers of a registry that restarts notice nothing.

Invariants: ``revision`` never goes back within one cluster; ``held`` is a part of ``records``.
Knows no clock: whoever drives it says when those that are held have had their time.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from waypost.model import Change, InstanceId, Record, Revision, ServiceName, Source

WHY_MISSED: Final = "no longer registered"

Key = tuple[ServiceName, InstanceId]


class View:
    """The records of what is watched, as of ``revision`` of ``cluster``."""

    __slots__ = ("cluster", "held", "records", "revision", "source")

    def __init__(self) -> None:
        self.records: dict[Key, Record] = {}
        self.cluster = ""
        self.revision: Revision = 0
        self.source: Source | None = None
        """Where it comes from; None while nothing at all is known.

        ``follower`` while a watch keeps it current, as a replica of the registry's state would be.
        """
        self.held: set[Key] = set()
        """Kept although the registry does not know them, since it lost its data."""

    def resume_at(self, cluster: str) -> Revision:
        """Say from which revision a watch has to go on; 0 asks for a snapshot."""
        return self.revision if cluster == self.cluster else 0

    def load(self, cluster: str, records: Sequence[Record], source: Source) -> list[Change]:
        """Begin with what was known before; nothing that is known here gives way to it."""
        if self.source is not None:
            return []
        told = self._become(records, 0)
        # The revision stays 0: what was kept may lack what no consumer would have picked.
        self.cluster, self.source = cluster, source
        return told

    def replace(self, cluster: str, revision: Revision, records: Sequence[Record]) -> list[Change]:
        """Take a snapshot."""
        if cluster == self.cluster and revision < self.revision:
            # A node that lags behind the one that was watched before; its changes will catch up.
            self.source = "follower"
            return []
        fresh = {_key(record) for record in records}
        if self.cluster not in ("", cluster):
            self.held = {key for key in self.records if key not in fresh}
        else:
            self.held -= fresh
        told = self._become(records, revision)
        self.cluster, self.revision, self.source = cluster, revision, "follower"
        return told

    def apply(self, revision: Revision, changes: Iterable[Change]) -> list[Change]:
        """Take what changed up to and with ``revision``."""
        told: list[Change] = []
        for change in changes:
            if change.revision <= self.revision:
                continue
            key = _key(change.record)
            before = self.records.get(key)
            was_held = key in self.held
            self.held.discard(key)
            if change.kind == "down":
                if before is not None:
                    del self.records[key]
                    told.append(change)
                continue
            self.records[key] = change.record
            kind = "up" if before is None else "changed"
            if was_held and before is not None and _is_same(before, change.record):
                continue
            told.append(change if change.kind == kind else _retold(change, kind))
        self.revision = max(self.revision, revision)
        self.source = "follower"
        return told

    def confirm(self, revision: Revision) -> None:
        """Take a bookmark: nothing changed up to ``revision``."""
        self.revision = max(self.revision, revision)
        self.source = "follower"

    def lost(self) -> None:
        """The watch broke: what is known is served on, as what it is."""
        if self.source == "follower":
            self.source = "cache"

    def lapse(self) -> list[Change]:
        """Let go of what was held and has not returned: its time is up."""
        gone = [key for key in self.records if key in self.held]
        self.held = set()
        return [_down(self.records.pop(key), self.revision) for key in gone]

    def _become(self, records: Sequence[Record], revision: Revision) -> list[Change]:
        before = self.records
        after = {_key(record): record for record in records}
        told = diff(before, after, revision, keep=self.held)
        for key in before:
            if key in self.held:
                after[key] = before[key]
        self.records = after
        return told


def diff(
    before: dict[Key, Record],
    after: dict[Key, Record],
    revision: Revision,
    *,
    keep: set[Key] | frozenset[Key] = frozenset(),
) -> list[Change]:
    """Say what changed between two states: what came and changed, by revision; then what went.

    What went is told last, so that whoever follows never runs out of instances halfway.
    """
    told: list[Change] = []
    for key, record in after.items():
        old = before.get(key)
        if old is None:
            told.append(Change(record.revision, "up", record, record.since_ms))
        elif old is not record and not _is_same(old, record):
            told.append(Change(record.revision, "changed", record, record.since_ms))
    told.sort(key=_revision)
    told += [
        _down(record, revision)
        for key, record in before.items()
        if key not in after and key not in keep
    ]
    return told


def _down(record: Record, revision: Revision) -> Change:
    return Change(revision, "down", msgspec.structs.replace(record, why=WHY_MISSED), 0)


def _is_same(a: Record, b: Record) -> bool:
    """Whether nothing but the book-keeping of the registry differs."""
    return (
        a.instance == b.instance
        and a.health == b.health
        and a.why == b.why
        and a.suspect == b.suspect
    )


def _retold(change: Change, kind: str) -> Change:
    return Change(change.revision, "up" if kind == "up" else "changed", change.record, change.at_ms)


def _key(record: Record) -> Key:
    return record.instance.service, record.instance.id


def _revision(change: Change) -> Revision:
    return change.revision
