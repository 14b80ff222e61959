"""Make a failing thing small: delta debugging, and what of a history may be left out.

``ddmin`` is Zeller and Hildebrandt's ("Simplifying and isolating failure-inducing input", 2002).
A history cannot lose just any operation: without the write, the read of its value fails for no
fault of the store.  ``minimise`` only takes away what cannot make a linearizable history fail:

* everything after a moment (what is open then never came back);
* whole instances of a service, out of the answers too;
* reads.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from waypost.sim.checkers.history import Operation

T = TypeVar("T")
Fails = Callable[[Sequence[Operation]], bool]

TRIES_MAX: Final = 2_000


def ddmin(items: Sequence[T], fails: Callable[[list[T]], bool], tries: int = TRIES_MAX) -> list[T]:
    """Leave out what the failure does not need; with tries enough, every single item matters."""
    kept = list(items)
    parts = 2
    while kept:
        size = -(-len(kept) // parts)
        smaller = False
        for start in range(0, len(kept), size):
            if tries == 0:
                return kept
            tries -= 1
            rest = kept[:start] + kept[start + size :]
            if fails(rest):
                kept, parts, smaller = rest, max(parts - 1, 2), True
                break
        if not smaller:
            if size == 1:
                return kept
            parts = min(parts * 2, len(kept))
    return kept


def minimise(operations: Sequence[Operation], fails: Fails) -> list[Operation]:
    """The smallest history, of those that this finds, that still ``fails``; it must fail now."""
    assert fails(operations), "nothing to minimise: the history does not fail"
    kept = _cut(operations, fails)
    names = sorted({name for operation in kept for name in _instances(operation)})
    needed = ddmin(names, lambda some: fails(_only(kept, some)))
    kept = _only(kept, needed)
    reads = [op for op in kept if op.kind in ("resolve", "read")]
    few = ddmin(reads, lambda some: fails(_without(kept, reads, some)))
    return _without(kept, reads, few)


def until(operations: Sequence[Operation], moment: int) -> list[Operation]:
    """What had been called by then; what had not come back by then never did."""
    return [
        op
        if op.back is not None and op.back <= moment
        else msgspec.structs.replace(op, back=None, result=None)
        for op in operations
        if op.call <= moment
    ]


def _cut(operations: Sequence[Operation], fails: Fails) -> list[Operation]:
    """A history that fails fails for good: look for the first return with which it does."""
    moments = sorted({op.back for op in operations if op.back is not None})
    low, high = 0, len(moments) - 1
    while low < high:
        middle = (low + high) // 2
        if fails(until(operations, moments[middle])):
            high = middle
        else:
            low = middle + 1
    cut = until(operations, moments[low]) if moments else list(operations)
    return cut if fails(cut) else list(operations)


def _instances(operation: Operation) -> list[str]:
    """The instances that an operation names, by service and id."""
    if operation.kind in ("register", "deregister", "health"):
        return [f"{operation.key} {operation.args[0]}"]
    if isinstance(operation.result, tuple):
        return [f"{operation.key} {row[0]}" for row in operation.result]
    return []


def _only(operations: Sequence[Operation], names: Sequence[str]) -> list[Operation]:
    """The same history as if those instances were the only ones."""
    wanted = set(names)
    kept: list[Operation] = []
    for op in operations:
        if op.kind in ("register", "deregister", "health"):
            if f"{op.key} {op.args[0]}" in wanted:
                kept.append(op)
        elif isinstance(op.result, tuple):
            rows = tuple(row for row in op.result if f"{op.key} {row[0]}" in wanted)
            kept.append(msgspec.structs.replace(op, result=rows))
        else:
            kept.append(op)
    return kept


def _without(
    operations: Sequence[Operation], among: Sequence[Operation], needed: Sequence[Operation]
) -> list[Operation]:
    """Leave out of ``operations`` those ``among`` them that are not ``needed``."""
    dropped = {id(op) for op in among} - {id(op) for op in needed}
    return [op for op in operations if id(op) not in dropped]
