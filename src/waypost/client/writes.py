"""The writes of one client, from their making to their answer.

Commands that are made together travel in one batch (a WRITE frame), which has one id for good.  A
batch whose answer is lost is sent again as it is, under the same id, over whichever connection:
the registry carries it out once, and answers again what it answered then.

The registry remembers only so many writes of a client (``catalog.origins``).  So while a batch may
still have to be sent again, no more are sent after it than would let the registry forget it; what
comes meanwhile waits, and becomes a larger batch when there is room.

Invariants: ``_unanswered`` is in the order of the ids; from the first of them on, no more than
``WRITES_PER_CLIENT`` batches were made, answered ones included.  Knows no clock, no connection and
no future: ``token`` is whatever its driver wants back with the answer.
"""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

import msgspec

from waypost import wire
from waypost.catalog.origins import WRITES_PER_CLIENT

_HEAD_BYTES: Final = 16

T = TypeVar("T")


class Batch(Generic[T]):
    """Commands that travel together."""

    __slots__ = ("body", "id", "is_doubtful", "number", "tokens")

    def __init__(self, number: int, batch_id: int, body: bytes, tokens: list[T]) -> None:
        self.number = number
        """How many batches were made before it."""
        self.id = batch_id
        self.body = body
        self.tokens = tokens
        self.is_doubtful = False
        """It may have been carried out, for all that is known."""


class Writes(Generic[T]):
    """What waits to be sent, and what waits to be answered."""

    __slots__ = ("_made", "_next_id", "_unanswered", "_waiting")

    def __init__(self, next_id: Callable[[], int]) -> None:
        self._next_id = next_id
        self._waiting: list[tuple[bytes, T]] = []
        self._unanswered: dict[int, Batch[T]] = {}
        self._made = 0

    def __len__(self) -> int:
        """How many batches are unanswered."""
        return len(self._unanswered)

    @property
    def unanswered(self) -> list[Batch[T]]:
        """What has been taken and not answered, oldest first."""
        return list(self._unanswered.values())

    @property
    def tokens(self) -> list[T]:
        """Of all that is not answered, sent or not."""
        sent = [token for batch in self._unanswered.values() for token in batch.tokens]
        return sent + [token for _, token in self._waiting]

    def put(self, command: bytes, token: T) -> None:
        """Want a command written: it is encoded already."""
        self._waiting.append((command, token))

    def find(self, batch_id: int) -> Batch[T] | None:
        """The batch with that id, if it is unanswered."""
        return self._unanswered.get(batch_id)

    def take(self) -> list[Batch[T]]:
        """Make batches of what waits, as few and as many as the limits allow: send them now."""
        taken: list[Batch[T]] = []
        waiting, at = self._waiting, 0
        while at < len(waiting) and self._has_room():
            end = _end_of_batch(waiting, at)
            body = wire.encode([msgspec.Raw(command) for command, _ in waiting[at:end]])
            tokens = [token for _, token in waiting[at:end]]
            batch = Batch(self._made, self._next_id(), body, tokens)
            self._made += 1
            self._unanswered[batch.id] = batch
            taken.append(batch)
            at = end
        del waiting[:at]
        return taken

    def answered(self, batch: Batch[T]) -> None:
        """It will not be sent again."""
        del self._unanswered[batch.id]

    def forget(self, is_wanted: Callable[[T], bool]) -> None:
        """Let go of what nobody waits for any more: it is not sent, or not again."""
        self._waiting = [each for each in self._waiting if is_wanted(each[1])]
        for batch in self.unanswered:
            if not any(map(is_wanted, batch.tokens)):
                del self._unanswered[batch.id]

    def _has_room(self) -> bool:
        if not self._unanswered:
            return True
        oldest = next(iter(self._unanswered.values()))
        return self._made - oldest.number < WRITES_PER_CLIENT


def _end_of_batch(waiting: list[tuple[bytes, T]], start: int) -> int:
    size = _HEAD_BYTES
    end = start
    while end < min(len(waiting), start + wire.COMMANDS_PER_WRITE_MAX):
        size += len(waiting[end][0])
        if size > wire.REQUEST_BYTES_MAX and end > start:
            break
        end += 1
    return end
