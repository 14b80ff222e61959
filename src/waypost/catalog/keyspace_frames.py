"""The keyspace as frames of a snapshot, and back.

    16 Keyspace [16, revision, forgotten, of holders, events fired, pairs, rows, [event, ...]]
    17 Pairs    [17, [pair, ...]]
    18 Rows     [18, [holder, ...], [[key held back, until], ...], [[grave, revision], ...]]

One Keyspace, then its rows, all holders first, then its pairs by key.  A frame ends after 256 rows
or pairs, or where the values are long enough, so that none is slow to write.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from waypost.catalog.capture import KeyspaceImage
from waypost.catalog.holders import Holder
from waypost.catalog.keys import Pair
from waypost.catalog.keyspace import Event, Keyspace
from waypost.errors import CorruptData
from waypost.model import Revision

_VALUE_BYTES_PER_FRAME: Final = 64 * 1024
_PER_FRAME: Final = 256


class KeyspaceFrame(msgspec.Struct, frozen=True, array_like=True, tag=16, gc=False):
    """What there is once, and how many there are of the rest."""

    revision: Revision
    forgotten: Revision
    holders_revision: Revision
    events_fired: int
    pairs: int
    rows: int
    events: list[Event]


class RowsFrame(msgspec.Struct, frozen=True, array_like=True, tag=18, gc=False):
    """Some of the holders, of the keys that are held back, or of the graves."""

    holders: list[Holder]
    delays: list[tuple[str, int]]
    graves: list[tuple[str, Revision]]


class PairsFrame(msgspec.Struct, frozen=True, array_like=True, tag=17, gc=False):
    """Some of the pairs, by key."""

    pairs: list[Pair]


def frames_of(image: KeyspaceImage) -> Iterator[KeyspaceFrame | RowsFrame | PairsFrame]:
    """Write the keyspace as it was."""
    yield KeyspaceFrame(
        image.revision,
        image.forgotten,
        image.holders_revision,
        image.events_fired,
        image.count,
        len(image.holders) + len(image.delays) + len(image.graves),
        image.events,
    )
    for at in range(0, len(image.holders), _PER_FRAME):
        yield RowsFrame(image.holders[at : at + _PER_FRAME], [], [])
    for at in range(0, len(image.delays), _PER_FRAME):
        yield RowsFrame([], image.delays[at : at + _PER_FRAME], [])
    for at in range(0, len(image.graves), _PER_FRAME):
        yield RowsFrame([], [], image.graves[at : at + _PER_FRAME])
    pairs: list[Pair] = []
    size = 0
    for pair in (pair for piece in image.pieces for pair in piece):
        pairs.append(pair)
        size += len(pair.value)
        if size >= _VALUE_BYTES_PER_FRAME or len(pairs) == _PER_FRAME:
            yield PairsFrame(pairs)
            pairs, size = [], 0
    if pairs:
        yield PairsFrame(pairs)


class KeyspaceLoader:
    """Puts a keyspace together, frame by frame."""

    def __init__(self) -> None:
        self._found: Keyspace | None = None
        self._claimed = (0, 0)
        self._rows = 0

    def take(self, frame: KeyspaceFrame) -> None:
        """Begin with what there is once."""
        if self._found is not None:
            raise damaged("a second keyspace begins in it")
        found = self._found = Keyspace()
        self._claimed = frame.pairs, frame.rows
        found.events_fired = frame.events_fired
        found.events.extend(frame.events)
        found.holders.revision = frame.holders_revision
        found.keys.revision, found.keys.forgotten = frame.revision, frame.forgotten

    def take_rows(self, frame: RowsFrame) -> None:
        """Add holders, keys that are held back, and graves."""
        if self._found is None:
            raise damaged("rows come before their keyspace")
        for holder in frame.holders:
            self._found.holders.put(holder)
        self._found.holders.restore_delays(frame.delays)
        self._found.keys.restore_graves(frame.graves)
        self._rows += len(frame.holders) + len(frame.delays) + len(frame.graves)

    def take_pairs(self, frame: PairsFrame) -> None:
        """Add pairs."""
        if self._found is None:
            raise damaged("pairs come before their keyspace")
        for pair in frame.pairs:
            if pair.holder and self._found.holders.find(pair.holder) is None:
                raise damaged(f"holder {pair.holder!r} of key {pair.key!r} is missing")
            self._found.keys.restore_pair(pair)

    def finish(self, *, claimed: bool) -> Keyspace:
        """Check that all is there, and hand it over."""
        found = self._found
        if claimed != (found is not None):
            raise damaged("its head and its keyspace contradict each other")
        if found is None:
            return Keyspace()
        if (len(found.keys), self._rows) != self._claimed:
            raise damaged(
                f"its keys and their rows are {(len(found.keys), self._rows)}, and it says "
                f"{self._claimed}"
            )
        return found


def damaged(what: str) -> CorruptData:
    """Say what is wrong with a snapshot."""
    return CorruptData(f"snapshot: {what}: load an older one, or copy one from another node")
