"""Keys and their values, in the order of their bytes, and what was removed under each prefix.

Two kinds of revision are told.  A key has its own.  A prefix has that of the latest change under
it: of the keys that are there, and of those that were removed, of which a grave is kept.  Where
there is neither, it is the revision of the latest change of any key.  It never goes back:

- a prefix that is removed whole gets one grave, and those under it are dropped: where nothing is
  left, the revision of all keys stands in, which is as late;
- the graves are bounded: for those that are forgotten, ``forgotten`` holds for every prefix.

Keys stand in pieces, each a sorted list: a change costs a search and a move within one piece.
Python orders text by code point, which is the order of its bytes in UTF-8 (Unicode 15, 3.9, D92).

Invariants: no piece is empty; ``size`` counts all pairs; ``_held`` lists exactly the keys with a
holder.  How the keys are cut into pieces is not part of the state.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from itertools import islice
from operator import attrgetter
from typing import Final

import msgspec

from waypost.model import Revision

VALUE_BYTES_MAX: Final = 512 * 1024
KEY_BYTES_MAX: Final = 4_096
PAIR_BYTES: Final = 256
"""What a pair takes beside its key and its value."""
GRAVES_MAX: Final = 4_096
_FORGOTTEN_SHARE: Final = 64
_PIECE_MAX: Final = 1_024

_key_of = attrgetter("key")


class Pair(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One key and all that is known of it."""

    key: str
    value: bytes
    flags: int
    lock_index: int
    """How often it was acquired: a fencing token."""
    holder: str
    created: Revision
    revision: Revision


class Keys:
    """All pairs."""

    __slots__ = (
        "_count",
        "_grave_keys",
        "_graves",
        "_held",
        "_pieces",
        "_starts",
        "forgotten",
        "is_read",
        "revision",
        "size",
    )

    def __init__(self) -> None:
        self.revision: Revision = 0
        """Of the latest change of any key, one that is gone included."""
        self.forgotten: Revision = 0
        """Of the latest removal whose grave is forgotten."""
        self.size = 0
        """Bytes, of keys, values and what each pair takes beside."""
        self.is_read = False
        """Somebody still reads the pieces that there are: they are replaced, not changed."""
        self._count = 0
        self._starts: list[str] = []
        self._pieces: list[list[Pair]] = []
        self._held: dict[str, dict[str, None]] = {}
        self._graves: dict[str, Revision] = {}
        """Of keys and of prefixes, the one that was removed longest ago first."""
        self._grave_keys: list[str] = []

    def __len__(self) -> int:
        return self._count

    def find(self, key: str) -> Pair | None:
        """Look a key up."""
        number = bisect_right(self._starts, key) - 1
        if number < 0:
            return None
        piece = self._pieces[number]
        at = bisect_left(piece, key, key=_key_of)
        return piece[at] if at < len(piece) and piece[at].key == key else None

    def under(self, prefix: str) -> Iterator[Pair]:
        """Go through the pairs whose keys begin with ``prefix``, by key; nothing may change it."""
        number = max(0, bisect_right(self._starts, prefix) - 1)
        pieces = self._pieces
        if number == len(pieces):
            return
        at = bisect_left(pieces[number], prefix, key=_key_of)
        while number < len(pieces):
            for pair in islice(pieces[number], at, None):
                if not pair.key.startswith(prefix):
                    return
                yield pair
            number, at = number + 1, 0

    def held_by(self, holder: str) -> list[str]:
        """List the keys of a holder, in order."""
        return sorted(self._held.get(holder, ()))

    def revision_under(self, prefix: str) -> Revision:
        """Tell the revision of a prefix."""
        if not prefix:
            return self.revision
        latest = self._latest_under(prefix)
        return max(latest, self.forgotten) if latest else self.revision

    def is_removed_since(self, key: str, revision: Revision) -> bool:
        """Whether a key may have been removed after a revision, alone or with a prefix of it."""
        graves = self._graves
        return self.forgotten > revision or any(
            graves.get(key[:length], 0) > revision for length in range(1, len(key) + 1)
        )

    def has_changed_under(self, prefix: str, revision: Revision) -> bool:
        """Whether anything under a prefix may have changed after a revision.

        Never after the revision that ``revision_under`` tells.
        """
        if self.revision <= revision:
            return False
        if not prefix:
            return True
        latest = self._latest_under(prefix)
        if latest:
            return max(latest, self.forgotten) > revision
        return self.is_removed_since(prefix, revision)

    def _latest_under(self, prefix: str) -> Revision:
        """Of the latest change under a prefix that is known; 0 for none."""
        latest = max((pair.revision for pair in self.under(prefix)), default=0)
        return max(latest, self._buried_under(prefix))

    def _buried_under(self, prefix: str) -> Revision:
        latest = 0
        for at in range(bisect_left(self._grave_keys, prefix), len(self._grave_keys)):
            key = self._grave_keys[at]
            if not key.startswith(prefix):
                break
            latest = max(latest, self._graves[key])
        return latest

    # Changing

    def put(self, pair: Pair) -> None:
        """Add a pair, or replace the one with its key."""
        self.revision = pair.revision
        key = pair.key
        self.size += _size(pair)
        number = bisect_right(self._starts, key) - 1
        if number < 0:
            if not self._pieces:
                self._pieces.append([])
                self._starts.append(key)
            number = 0
            self._starts[0] = key
        piece = self._own(number)
        at = bisect_left(piece, key, key=_key_of)
        if at < len(piece) and piece[at].key == key:
            self._forget(piece[at])
            piece[at] = pair
        else:
            piece.insert(at, pair)
            self._count += 1
        if pair.holder:
            self._held.setdefault(pair.holder, {})[key] = None
        if len(piece) > _PIECE_MAX:
            half = len(piece) // 2
            self._pieces[number : number + 1] = [piece[:half], piece[half:]]
            self._starts.insert(number + 1, piece[half].key)

    def drop(self, key: str, revision: Revision) -> None:
        """Remove a key, if it is there."""
        if self.find(key) is not None:
            self._take_out(key)
            self.revision = revision
            self._bury(key, revision)

    def drop_under(self, prefix: str, revision: Revision) -> list[str]:
        """Remove all keys that begin with ``prefix``; tell which."""
        gone = self._cut_out(prefix)
        if not gone:
            return []
        self.revision = revision
        low = bisect_left(self._grave_keys, prefix)
        high = low
        while high < len(self._grave_keys) and self._grave_keys[high].startswith(prefix):
            del self._graves[self._grave_keys[high]]
            high += 1
        del self._grave_keys[low:high]
        if prefix:
            self._bury(prefix, revision)
        else:
            self.forgotten = revision
        return [pair.key for pair in gone]

    def _cut_out(self, prefix: str) -> list[Pair]:
        """Take all pairs out whose keys begin with ``prefix``, piece by piece."""
        pieces, starts = self._pieces, self._starts
        gone: list[Pair] = []
        number = max(0, bisect_right(starts, prefix) - 1)
        while number < len(pieces):
            piece = pieces[number]
            low = bisect_left(piece, prefix, key=_key_of)
            high = bisect_left(piece, True, low, key=lambda pair: not pair.key.startswith(prefix))
            if high > low:
                gone += piece[low:high]
                rest = piece[:low] + piece[high:]
                pieces[number : number + 1] = [rest] if rest else []
                starts[number : number + 1] = [rest[0].key] if rest else []
                number += bool(rest)
            else:
                number += 1
            if high < len(piece):
                break
        for pair in gone:
            self._forget(pair)
        self._count -= len(gone)
        return gone

    def _take_out(self, key: str) -> None:
        number = bisect_right(self._starts, key) - 1
        piece = self._own(number)
        self._forget(piece.pop(bisect_left(piece, key, key=_key_of)))
        self._count -= 1
        if not piece:
            del self._pieces[number], self._starts[number]

    def _own(self, number: int) -> list[Pair]:
        """The piece, as one that may be changed."""
        if self.is_read:
            self._pieces[number] = self._pieces[number].copy()
        return self._pieces[number]

    def _forget(self, pair: Pair) -> None:
        self.size -= _size(pair)
        if pair.holder:
            keys = self._held[pair.holder]
            del keys[pair.key]
            if not keys:
                del self._held[pair.holder]

    def _bury(self, key: str, revision: Revision) -> None:
        if self._graves.pop(key, None) is None:
            insort(self._grave_keys, key)
        self._graves[key] = revision
        if len(self._graves) > GRAVES_MAX:
            for oldest in list(islice(self._graves, GRAVES_MAX // _FORGOTTEN_SHARE)):
                self.forgotten = self._graves.pop(oldest)
                del self._grave_keys[bisect_left(self._grave_keys, oldest)]

    # Keeping a revision of it: see snapshots

    def pieces(self) -> list[list[Pair]]:
        """The pieces as they are now: good as long as ``is_read`` is set."""
        return self._pieces.copy()

    def graves(self) -> list[tuple[str, Revision]]:
        """The graves as they are now."""
        return list(self._graves.items())

    def restore_graves(self, graves: list[tuple[str, Revision]]) -> None:
        """Put back graves that a snapshot holds, in order."""
        self._graves.update(graves)
        for key, _ in graves:
            insort(self._grave_keys, key)

    def restore_pair(self, pair: Pair) -> None:
        """Put back a pair that a snapshot holds."""
        latest = self.revision
        self.put(pair)
        self.revision = latest


def _size(pair: Pair) -> int:
    key = pair.key
    return (len(key) if key.isascii() else len(key.encode())) + len(pair.value) + PAIR_BYTES
