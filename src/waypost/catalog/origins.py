"""Which writes were applied before, so that one that comes again is answered and changes nothing.

A client that lost its connection does not know what became of its last writes, and repeats them,
elsewhere, with the origin that they had: its own id, and a number that it gives to one write only.
Of each client the last writes are kept, with their outcomes (RIFL, Lee et al., SOSP 2015; clients'
sessions in Ongaro's thesis on Raft, 6.3).

Bounded four ways: writes and outcomes of a client, clients, and outcomes of all.  A client may have
more writes under way than are kept; what is older than all that are kept was applied or was not,
nobody knows any more, and it is refused rather than applied twice.  A client of which nothing is
kept is new.

Invariants: the windows stand in the order in which their clients last wrote anything new; a window
is not empty, its writes stand in order of their numbers, and every write of its client that was
ever applied is one of them or not above ``floor``.  Repeats change nothing, not even the order.
"""

from bisect import insort
from collections.abc import Iterator
from itertools import islice
from operator import attrgetter

import msgspec

from waypost.commands import Origin, Outcome, Refused
from waypost.errors import TooOld
from waypost.model import Revision

CLIENTS_MAX = 65_536
OUTCOMES_MAX = 1 << 20
"""As many as if each client's writes had one command."""
WRITES_PER_CLIENT = 16
OUTCOMES_PER_CLIENT = 4_096
"""More only if the last write alone has more."""
_FORGOTTEN_SHARE = 64
"""One in so many clients is forgotten at once, because to find the first few of a dict whose head
was emptied costs as much as to walk over what was there."""


class Kept(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A write that was applied, and what came of it."""

    seq: int
    index: Revision
    outcomes: list[Outcome]


class Window(msgspec.Struct, array_like=True, gc=False):
    """The last writes of one client."""

    client: str
    floor: int
    """The highest number of those that are no longer kept."""
    writes: list[Kept]


class Origins:
    """The last writes of the clients that wrote last."""

    __slots__ = ("_clients_max", "_outcomes", "_outcomes_max", "_windows")

    def __init__(self, *, clients_max: int = CLIENTS_MAX, outcomes_max: int = OUTCOMES_MAX) -> None:
        assert clients_max > 0
        self._clients_max = clients_max
        self._outcomes_max = outcomes_max
        self._windows: dict[str, Window] = {}
        self._outcomes = 0

    def __len__(self) -> int:
        return len(self._windows)

    def __iter__(self) -> Iterator[Window]:
        return iter(self._windows.values())

    def find(self, origin: Origin) -> Kept | None:
        """Tell what came of a write; None if it is new.

        Of one that is too old to know, it is a Kept at revision 0 with that refusal.
        """
        window = self._windows.get(origin.client)
        if window is None or origin.seq > window.writes[-1].seq:
            return None
        for kept in window.writes:
            if kept.seq == origin.seq:
                return kept
        if origin.seq > window.floor:
            return None  # it was overtaken on its way here
        return Kept(origin.seq, 0, [_too_old(origin)])

    def keep(self, origin: Origin, index: Revision, outcomes: list[Outcome], *, copy: bool) -> None:
        """Keep what came of a new write; with ``copy``, somebody still reads the windows."""
        window = self._windows.pop(origin.client, None)
        if window is None:
            window = Window(origin.client, -1, [])
        elif copy:
            window = Window(window.client, window.floor, window.writes.copy())
        self._windows[window.client] = window
        kept = Kept(origin.seq, index, outcomes)
        writes = window.writes
        if writes and origin.seq < writes[-1].seq:
            insort(writes, kept, key=_seq)
        else:
            writes.append(kept)
        self._outcomes += len(outcomes)
        if len(writes) > WRITES_PER_CLIENT:
            self._drop(window)
        if len(outcomes) > 1:
            while len(writes) > 1 and _count(window) > OUTCOMES_PER_CLIENT:
                self._drop(window)
        while len(self._windows) > self._clients_max or self._outcomes > self._outcomes_max:
            self._forget(len(self._windows) // _FORGOTTEN_SHARE or 1)

    def restore(self, window: Window) -> None:
        """Put back what a snapshot holds, in its order."""
        assert window.writes
        self._windows[window.client] = window
        self._outcomes += _count(window)

    def _drop(self, window: Window) -> None:
        dropped = window.writes.pop(0)
        window.floor = dropped.seq
        self._outcomes -= len(dropped.outcomes)

    def _forget(self, clients: int) -> None:
        for client in list(islice(self._windows, clients)):
            self._outcomes -= _count(self._windows.pop(client))


_seq = attrgetter("seq")


def _count(window: Window) -> int:
    return sum([len(kept.outcomes) for kept in window.writes])


def _too_old(origin: Origin) -> Refused:
    return Refused(
        TooOld.code,
        f"origin: write {origin.seq} of {origin.client!r} is older than its last "
        f"{WRITES_PER_CLIENT}, and nothing is known of it any more: ask for the state to see "
        "whether it was applied",
    )
