"""Which writes were applied before, so that one that comes again is answered and changes nothing.

A client that lost its connection does not know what became of its last writes, and repeats them,
elsewhere, with the origin that they had: its own id, and a number that it gives to one write only.
Of each client the last writes are kept, with their outcomes (RIFL, Lee et al., SOSP 2015; clients'
sessions in Ongaro's thesis on Raft, 6.3).

Bounded: the writes of a client, the clients, and the outcomes of writes with several commands.  Of
a write that is older than all that are kept of its client nobody knows any more whether it was
applied, and it is refused rather than applied twice.  A client of which nothing is kept is new.

Invariants: the windows stand in the order in which their clients last wrote anything new.  The
writes of a window, one at least, stand in order of their numbers, and are the highest of all that
its client ever had applied.  Repeats change nothing, not even the order.
"""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final, TypeVar, cast

from waypost.commands import Command, LogBatch, Origin, Outcome, Refused
from waypost.errors import TooOld
from waypost.model import Revision

CLIENTS_MAX: Final = 65_536
WRITES_PER_CLIENT: Final = 16
BULK_MAX: Final = 1 << 20
"""Outcomes of all writes with several commands, and ``_BULK_WRITE`` more for each such write."""
_BULK_WRITE: Final = 8
_FORGOTTEN_SHARE: Final = 64
"""One in so many is forgotten at once, the oldest: to find the first of a dict whose head was
emptied costs as much as to walk over what was there."""

Window = deque[int | Refused | bytes | None]
"""Of each write of a client in turn: its number, its revision, and its outcome.

``None`` stands for the outcomes of several commands, which are elsewhere, and may be dropped.
"""
FIELDS: Final = 3
_FULL: Final = WRITES_PER_CLIENT * FIELDS
_Key = TypeVar("_Key")


class Origins:
    """The last writes of the clients that wrote last."""

    __slots__ = ("_bulk", "_bulk_count", "_bulk_max", "_clients_max", "_windows", "is_read")

    def __init__(self, *, clients_max: int = CLIENTS_MAX, bulk_max: int = BULK_MAX) -> None:
        assert clients_max > 0
        self.is_read = False
        """Somebody still reads the windows that there are: they are replaced, not changed."""
        self._clients_max = clients_max
        self._bulk_max = bulk_max
        self._windows: dict[str, Window] = {}
        self._bulk: dict[tuple[str, int], list[Outcome]] = {}
        """In order of the log, and bounded by that alone: a window may have lost the write."""
        self._bulk_count = 0

    def __len__(self) -> int:
        return len(self._windows)

    def windows(self) -> Iterator[tuple[str, Window]]:
        """Go through the clients and their windows, as they are now."""
        return zip(list(self._windows), list(self._windows.values()), strict=True)

    def bulk(self) -> Iterator[tuple[tuple[str, int], list[Outcome]]]:
        """Go through what came of writes with several commands, as they are now."""
        return zip(list(self._bulk), list(self._bulk.values()), strict=True)

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
            if window is None or is_read or seq <= window[-FIELDS]:  # type: ignore[operator]
                revision, came = self._apply_carefully(index, part, origin, run)
                if revision != index:
                    repeated[len(outcomes)] = revision
            else:
                del windows[client]
                windows[client] = window
                came = run(part)
                window.extend((seq, index, came[0] if len(came) == 1 else None))
                if len(came) != 1:
                    self._keep_bulk(client, seq, came)
            outcomes.append(came)
        return outcomes, repeated

    def restore_window(self, client: str, fields: list[int | Refused | bytes | None]) -> None:
        """Put back what a snapshot holds of a client."""
        self._windows[client] = deque(fields, _FULL)

    def restore_bulk(self, client: str, seq: int, outcomes: list[Outcome]) -> None:
        """Put back what a snapshot holds of a write with several commands."""
        self._keep_bulk(client, seq, outcomes)

    def _apply_carefully(
        self,
        index: Revision,
        part: list[Command],
        origin: Origin,
        run: Callable[[list[Command]], list[Outcome]],
    ) -> tuple[Revision, list[Outcome]]:
        """Do the same for one write in every case: one that is repeated, or was overtaken."""
        client, seq = origin.client, origin.seq
        fields = list(self._windows.get(client, ()))
        seqs = cast("list[int]", fields[::FIELDS])
        if seq in seqs:
            _, revision, outcome = fields[FIELDS * seqs.index(seq) :][:FIELDS]
            kept: list[Outcome] | None
            kept = self._bulk.get((client, seq)) if outcome is None else [outcome]
            if kept is None:
                return index, _too_old(origin) * len(part)
            return cast("Revision", revision), kept
        if len(fields) == _FULL and seq < seqs[0]:
            return index, _too_old(origin) * len(part)
        came = run(part)
        at = FIELDS * sum(other < seq for other in seqs)
        fields[at:at] = seq, index, came[0] if len(came) == 1 else None
        self._windows.pop(client, None)
        self._windows[client] = deque(fields, _FULL)
        if len(came) != 1:
            self._keep_bulk(client, seq, came)
        if len(self._windows) > self._clients_max:
            for oldest in _oldest(self._windows):
                del self._windows[oldest]
        return index, came

    def _keep_bulk(self, client: str, seq: int, outcomes: list[Outcome]) -> None:
        bulk = self._bulk
        if (client, seq) in bulk:  # of a time that was forgotten
            self._bulk_count -= len(bulk.pop((client, seq))) + _BULK_WRITE
        bulk[client, seq] = outcomes
        self._bulk_count += len(outcomes) + _BULK_WRITE
        while self._bulk_count > self._bulk_max:
            for oldest in _oldest(bulk):
                self._bulk_count -= len(bulk.pop(oldest)) + _BULK_WRITE


def _oldest(kept: dict[_Key, Any]) -> list[_Key]:
    return list(islice(kept, len(kept) // _FORGOTTEN_SHARE or 1))


def _too_old(origin: Origin) -> list[Outcome]:
    return [
        Refused(
            TooOld.code,
            f"origin: write {origin.seq} of client {origin.client!r} is older than its last "
            f"{WRITES_PER_CLIENT}, and nothing is known of it any more: ask for the state to see "
            "whether it was applied",
        )
    ]
