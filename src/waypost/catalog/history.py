"""The latest changes, so that a watch that was away is told what it missed and no more.

Bounded by a number of changes and by an age in cluster time; the oldest go as new ones come.  What
one entry changed in one service stays together: it came as a list, is kept as that list, and is
forgotten with it.  What ``since`` costs grows with its answer, never with the number of instances
or of other changes.

Invariants: lists stand in order of revision and are never empty; every change above ``floor`` is
here; all changes of one revision are told, or none is.  The history is not part of a snapshot: in
a catalog that was loaded from one, ``floor`` is the snapshot's revision, and an older cursor gets a
snapshot itself.
"""

from collections import deque

from waypost.model import Change, Revision, ServiceName

CHANGES_MAX = 100_000
AGE_MS_MAX = 3_600_000
_DROPS_PER_CHANGE = 2
"""Of old changes for each new one, and the rest of their list: so no entry pays for an hour in
which nothing happened."""


class _Log:
    """The changes of one service; invariant: every change of it above ``floor`` is here."""

    __slots__ = ("floor", "lists")

    def __init__(self, floor: Revision) -> None:
        self.lists: deque[list[Change]] = deque()
        self.floor = floor


class History:
    """A bounded log of changes, readable for one service or for all."""

    __slots__ = ("_age_ms_max", "_all", "_changes_max", "_count", "_logs", "floor")

    def __init__(
        self,
        floor: Revision = 0,
        *,
        changes_max: int = CHANGES_MAX,
        age_ms_max: int = AGE_MS_MAX,
    ) -> None:
        assert changes_max > 0
        assert age_ms_max >= 0
        self.floor = floor
        """Revision of the last change that was forgotten."""
        self._changes_max = changes_max
        self._age_ms_max = age_ms_max
        self._all: deque[list[Change]] = deque()
        self._count = 0
        self._logs: dict[ServiceName, _Log] = {}

    def __len__(self) -> int:
        return self._count

    def extend(self, service: ServiceName, changes: list[Change]) -> None:
        """Add what one entry changed in one service; the list is the history's from here on."""
        assert not self._all or self._all[-1][-1].revision <= changes[0].revision
        log = self._logs.get(service)
        if log is None:
            log = self._logs[service] = _Log(self.floor)
        log.lists.append(changes)
        self._all.append(changes)
        self._count += len(changes)
        self._drop(changes[-1].at_ms - self._age_ms_max, _DROPS_PER_CHANGE * len(changes))

    def since(self, service: ServiceName, revision: Revision) -> list[Change] | None:
        """Tell the changes of a service after a revision; None if some of them are gone."""
        log = self._logs.get(service)
        if log is None:
            return [] if revision >= self.floor else None
        return _after(log.lists, revision) if revision >= log.floor else None

    def since_all(self, revision: Revision) -> list[Change] | None:
        """Tell the changes of all services after a revision; None if some of them are gone."""
        return _after(self._all, revision) if revision >= self.floor else None

    def at_or_after(self, at_ms: int) -> list[Change] | None:
        """Tell all changes from a moment of cluster time on; None if some of them may be gone."""
        found: list[list[Change]] = []
        for changes in reversed(self._all):
            if changes[0].at_ms < at_ms:
                return _joined(found)
            found.append(changes)
        return _joined(found) if self.floor == 0 else None

    def _drop(self, at_ms_min: int, drops_max: int) -> None:
        everything = self._all
        while drops_max > 0:
            oldest = everything[0]
            if self._count - len(oldest) < self._changes_max and oldest[0].at_ms >= at_ms_min:
                return
            everything.popleft()
            self._count -= len(oldest)
            drops_max -= len(oldest)
            service = oldest[0].record.instance.service
            log = self._logs[service]
            assert log.lists[0] is oldest
            log.lists.popleft()
            self.floor = log.floor = oldest[0].revision
            if not log.lists:
                del self._logs[service]


def _after(lists: deque[list[Change]], revision: Revision) -> list[Change]:
    found: list[list[Change]] = []
    for changes in reversed(lists):
        if changes[0].revision <= revision:
            break
        found.append(changes)
    return _joined(found)


def _joined(found: list[list[Change]]) -> list[Change]:
    """Put together what was found from the latest to the oldest."""
    return [change for changes in reversed(found) for change in changes]
