"""The keyspace as frames of a snapshot, and back.

    16 Keyspace [16, revision, forgotten, holders' revision, events fired, pairs, [holder, ...],
                 [[key held back, until], ...], [event, ...], [[grave, revision], ...]]
    17 Pairs    [17, [pair, ...]]

One Keyspace, then its pairs by key.  A frame of pairs ends where its values are long enough, so
that none is slow to write.
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
_PAIRS_PER_FRAME: Final = 256


class KeyspaceFrame(msgspec.Struct, frozen=True, array_like=True, tag=16, gc=False):
    """All but the pairs."""

    revision: Revision
    forgotten: Revision
    holders_revision: Revision
    events_fired: int
    count: int
    holders: list[Holder]
    delays: list[tuple[str, int]]
    events: list[Event]
    graves: list[tuple[str, Revision]]


class PairsFrame(msgspec.Struct, frozen=True, array_like=True, tag=17, gc=False):
    """Some of the pairs, by key."""

    pairs: list[Pair]


def frames_of(image: KeyspaceImage) -> Iterator[KeyspaceFrame | PairsFrame]:
    """Write the keyspace as it was."""
    yield KeyspaceFrame(
        image.revision,
        image.forgotten,
        image.holders_revision,
        image.events_fired,
        image.count,
        image.holders,
        image.delays,
        image.events,
        image.graves,
    )
    pairs: list[Pair] = []
    size = 0
    for pair in (pair for piece in image.pieces for pair in piece):
        pairs.append(pair)
        size += len(pair.value)
        if size >= _VALUE_BYTES_PER_FRAME or len(pairs) == _PAIRS_PER_FRAME:
            yield PairsFrame(pairs)
            pairs, size = [], 0
    if pairs:
        yield PairsFrame(pairs)


class KeyspaceLoader:
    """Puts a keyspace together, frame by frame."""

    def __init__(self) -> None:
        self._found: Keyspace | None = None
        self._claimed = 0

    def take(self, frame: KeyspaceFrame) -> None:
        """Add all but the pairs."""
        if self._found is not None:
            raise damaged("a second keyspace begins in it")
        found = self._found = Keyspace()
        self._claimed = frame.count
        found.events_fired = frame.events_fired
        found.events.extend(frame.events)
        found.holders.revision = frame.holders_revision
        for holder in frame.holders:
            found.holders.put(holder)
        found.holders.restore_delays(frame.delays)
        found.keys.restore(frame.revision, frame.forgotten, frame.graves)

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
        if len(found.keys) != self._claimed:
            raise damaged(f"it has {len(found.keys)} keys, and says {self._claimed}")
        return found


def damaged(what: str) -> CorruptData:
    """Say what is wrong with a snapshot."""
    return CorruptData(f"snapshot: {what}: load an older one, or copy one from another node")
