"""What clients did and saw: the operations of a run, and the verdict of a checker on them.

Times are nanoseconds of one clock that all clients share (the simulator's, or the monotonic clock
of one machine).  An operation A precedes B when A came back before B was called; all others are
concurrent (Herlihy and Wing, "Linearizability", 1990).

A request that certainly had no effect (refused before the log) is not an operation: if it had one
all the same, nothing else explains it, and the checkers object.  A request whose outcome is
unknown is one that never came back.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

import msgspec

Ns = int
Index = int

FOREVER: Final[Ns] = (1 << 63) - 1

Instances = tuple[tuple[str, str, str], ...]
"""A service's instances, by id: id, what its registration wrote, health."""
Result = str | int | Instances | None


class Operation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One request, from its call to its return."""

    client: str
    key: str
    """What it is about; operations on different keys do not touch each other."""
    kind: str
    args: tuple[str, ...]
    result: Result
    """What came back; without meaning while ``back`` is None."""
    call: Ns
    back: Ns | None
    """When it returned; None if it never did, so that it may have happened at any time, or not."""
    index: Index | None = None
    """Of a write: where it stands in the log.  Of a read: what it observed.  None: unknown."""
    place: int = -1
    """Of a write: its position among those of the same index; -1 if the client cannot know."""
    stale: Ns | None = 0
    """By how much a read may be out of date: 0 linearizable, None as much as it likes."""


Outcome = Literal["ok", "violation", "unknown"]


class Verdict(msgspec.Struct, frozen=True):
    """What a checker found."""

    outcome: Outcome
    why: str = ""
    culprits: tuple[Operation, ...] = ()
    """The operations that cannot all be as they are."""
    order: tuple[Operation, ...] = ()
    """As far as the operations could be put in order, longest attempt."""
    steps: int = 0
    """How much was tried."""

    @property
    def is_ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.outcome == "ok"


OK: Final = Verdict("ok")


def text(operation: Operation) -> str:
    """One line for people."""
    back = "never" if operation.back is None else f"{operation.back / 1e6:.3f} ms"
    index = "" if operation.index is None else f" @{operation.index}"
    result = "?" if operation.back is None else repr(operation.result)
    return (
        f"{operation.client}: {operation.kind} {operation.key} {' '.join(operation.args)} -> "
        f"{result}{index} [{operation.call / 1e6:.3f} ms, {back}]"
    )


def settled(
    operations: Iterable[Operation], find: Callable[[Operation], tuple[Index, int] | None]
) -> list[Operation]:
    """Tell each write that never came back where the log has it.

    Those that ``find`` does not find were never applied, and leave the history; so do reads that
    never came back.
    """
    kept: list[Operation] = []
    for operation in operations:
        if operation.back is None and operation.index is None:
            found = find(operation)
            if found is not None:
                kept.append(msgspec.structs.replace(operation, index=found[0], place=found[1]))
        else:
            kept.append(operation)
    return kept


def by_key(operations: Iterable[Operation]) -> dict[str, list[Operation]]:
    """Split a history into those of its keys (Herlihy and Wing: linearizability is local)."""
    keys: dict[str, list[Operation]] = {}
    for operation in operations:
        keys.setdefault(operation.key, []).append(operation)
    return keys


def encode_history(operations: Sequence[Operation]) -> bytes:
    """Encode as JSON, one operation a line, for a file that can be checked again."""
    return b"".join(msgspec.json.encode(operation) + b"\n" for operation in operations)


def decode_history(data: bytes) -> list[Operation]:
    """Read back what ``encode_history`` wrote."""
    return [_decoder.decode(line) for line in data.splitlines() if line]


_decoder = msgspec.json.Decoder(Operation)
