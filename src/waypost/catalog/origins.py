"""Which writes were applied before, so that one that comes again is answered and changes nothing.

A client that lost its connection does not know what became of its last writes, and repeats them,
elsewhere, with the origin that they had: its own id, and a number that it gives to one write only.
Of each client the last writes are kept, with their outcomes (RIFL, Lee et al., SOSP 2015; clients'
sessions in Ongaro's thesis on Raft, 6.3).

Bounded: the writes of a client, the clients, and the outcomes of writes with several commands, of a
client and of all.  Of a write that is older than all that are kept of its client nobody knows any
more whether it was applied, and it is refused rather than applied twice.  A client of which nothing
is kept is new.

Invariants: the windows stand in the order in which their clients last wrote anything new.  The
writes of a window, one at least, stand in order of their numbers, and are the highest of all that
its client ever had applied.  Repeats change nothing, not even the order.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

from waypost.commands import Command, LogBatch, Origin, Outcome, Refused
from waypost.errors import TooOld
from waypost.model import Revision

CLIENTS_MAX: Final = 65_536
WRITES_PER_CLIENT: Final = 16
"""So many of the last are kept, and at most twice as many."""
BULK_PER_CLIENT: Final = 4_096
"""About so many outcomes of writes with several commands; the last write has all of its own."""
BULK_MAX: Final = 1 << 20
_FORGOTTEN_SHARE: Final = 64
"""One in so many clients is forgotten at once, because to find the first few of a dict whose head
was emptied costs as much as to walk over what was there."""

Kept = tuple[int, Revision, list[Outcome]]
"""The number of a write, the revision at which it was applied, and what came of it.

Revision 0 is that of a write of which no more is known.
"""
Window = list[Any]
"""The fields of one client's writes in turn; a single outcome stands for itself.

Flat, because a write then takes one object of its own, and not four.
"""
_FIELDS: Final = 3
_FULL: Final = WRITES_PER_CLIENT * _FIELDS
_TRIMMED_ABOVE: Final = 2 * _FULL


class Origins:
    """The last writes of the clients that wrote last."""

    __slots__ = ("_bulk", "_bulk_max", "_clients_max", "_windows", "is_read")

    def __init__(self, *, clients_max: int = CLIENTS_MAX, bulk_max: int = BULK_MAX) -> None:
        assert clients_max > 0
        assert bulk_max > 0
        self.is_read = False
        """Somebody still reads the windows that there are: they are replaced, not changed."""
        self._clients_max = clients_max
        self._bulk_max = bulk_max
        self._bulk = 0
        """How many outcomes of writes with several commands are kept."""
        self._windows: dict[str, Window] = {}

    def __len__(self) -> int:
        return len(self._windows)

    def windows(self) -> list[tuple[str, Window]]:
        """List the windows of all clients."""
        return list(self._windows.items())

    def apply(
        self, index: Revision, batch: LogBatch, run: Callable[[list[Command]], list[Outcome]]
    ) -> tuple[list[list[Outcome]], dict[int, Revision]]:
        """Let ``run`` apply the parts that are new, and answer for the others.

        Tell the outcomes of all parts, and the revisions of those that an earlier entry had.
        """
        windows, is_read = self._windows, self.is_read
        outcomes: list[list[Outcome]] = []
        repeated: dict[int, Revision] = {}
        for part, origin in zip(batch.parts, batch.origins, strict=True):
            if origin is None:
                outcomes.append(run(part))
                continue
            client, seq = origin.client, origin.seq
            window = windows.get(client)
            if window is None or is_read or seq <= window[-_FIELDS]:
                revision, came = self._apply_carefully(index, part, origin, run)
                if revision != index:
                    repeated[len(outcomes)] = revision
            else:
                del windows[client]
                windows[client] = window
                came = run(part)
                if len(came) == 1:
                    window += (seq, index, came[0])
                else:
                    self._add_bulk(window, seq, index, came)
                if len(window) > _TRIMMED_ABOVE:
                    self._trim(window)
            outcomes.append(came)
        return outcomes, repeated

    def _apply_carefully(
        self,
        index: Revision,
        part: list[Command],
        origin: Origin,
        run: Callable[[list[Command]], list[Outcome]],
    ) -> tuple[Revision, list[Outcome]]:
        """Do the same for one write in every case: a repeated one, one that was overtaken."""
        client, seq = origin.client, origin.seq
        window = self._windows.get(client, [])
        for kept in writes_of(window):
            if kept[0] == seq:
                return kept[1:] if kept[1] else (index, [_too_old(origin)] * len(part))
        if len(window) >= _FULL and seq < window[0]:
            return index, [_too_old(origin)] * len(part)
        at = sum(_FIELDS for other in window[::_FIELDS] if other < seq)
        window, later = window[:at], window[at:]
        self._windows.pop(client, None)
        self._windows[client] = window
        came = run(part)
        if len(came) == 1:
            window += (seq, index, came[0])
        else:
            self._add_bulk(window, seq, index, came)
        window += later
        self._trim(window)
        if len(self._windows) > self._clients_max:
            self._forget()
        return index, came

    def restore(self, client: str, writes: list[Kept]) -> None:
        """Put back what a snapshot holds, in its order."""
        window: Window = []
        for seq, index, outcomes in writes:
            window += (seq, index, outcomes[0] if len(outcomes) == 1 else outcomes)
        self._windows[client] = window
        self._bulk += _bulk(window)

    def _add_bulk(self, window: Window, seq: int, index: Revision, outcomes: list[Outcome]) -> None:
        """Add a write with several commands, or none, and make room for its outcomes."""
        self._bulk += len(outcomes)
        if len(outcomes) > BULK_PER_CLIENT // (2 * WRITES_PER_CLIENT):
            excess = _bulk(window) + len(outcomes) - BULK_PER_CLIENT
            for at in range(0, len(window), _FIELDS):
                if excess <= 0:
                    break
                size = _bulk(window[at : at + _FIELDS])
                if size:
                    window[at + 1 : at + 3] = 0, []
                    self._bulk -= size
                    excess -= size
        window += (seq, index, outcomes)
        while self._bulk > self._bulk_max:
            self._forget()

    def _trim(self, window: Window) -> None:
        if len(window) > _TRIMMED_ABOVE:
            self._bulk -= _bulk(window[:-_FULL])
            del window[:-_FULL]

    def _forget(self) -> None:
        windows = self._windows
        for client in list(islice(windows, len(windows) // _FORGOTTEN_SHARE or 1)):
            self._bulk -= _bulk(windows.pop(client))


def writes_of(window: Window) -> Iterator[Kept]:
    """Go through the writes of a window."""
    for at in range(0, len(window), _FIELDS):
        seq, index, outcomes = window[at : at + _FIELDS]
        yield seq, index, outcomes if isinstance(outcomes, list) else [outcomes]


def _bulk(window: Window) -> int:
    return sum(len(kept[2]) for kept in writes_of(window) if len(kept[2]) > 1)


def _too_old(origin: Origin) -> Refused:
    return Refused(
        TooOld.code,
        f"origin: write {origin.seq} of client {origin.client!r} is older than its last "
        f"{WRITES_PER_CLIENT}, and nothing is known of it any more: ask for the state to see "
        "whether it was applied",
    )
