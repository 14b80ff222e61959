"""What is promised to one client, and how old an answer may be: from the indexes alone.

* Monotonic: what a client has seen or written, it never sees undone; after an operation at index i
  returned to it, its later ones are at i or above (Terry et al., "Session guarantees for weakly
  consistent replicated data", 1994: read your writes, monotonic reads).
* Bounded staleness: a read called at t that may be s old observes at least the highest index that
  any client had been told by t - s.
* Once: no request takes effect at two places in the log.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

from waypost.sim.checkers.history import OK, Index, Ns, Operation, Verdict, text


def check_monotonic(operations: Iterable[Operation]) -> Verdict:
    """Check that no client went back in time."""
    clients: dict[str, list[Operation]] = {}
    for operation in operations:
        if operation.index is not None and operation.back is not None:
            clients.setdefault(operation.client, []).append(operation)
    for some in clients.values():
        returns = _Returns(some)
        for operation in some:
            highest = returns.highest_by(operation.call - 1)
            if highest is not None and highest.index > _index(operation):
                why = f"went back: after {text(highest.operation)}, {text(operation)}"
                return Verdict("violation", why, (highest.operation, operation))
    return OK


def check_staleness(
    operations: Sequence[Operation], reads: Iterable[Operation], *, slack: Ns = 0
) -> Verdict:
    """Check that each of ``reads`` is no older than it may be; 0 is a linearizable one.

    ``slack`` forgives what the measuring of times costs.
    """
    returns = _Returns([op for op in operations if op.index is not None and op.back is not None])
    for read in reads:
        if read.stale is None or read.back is None:
            continue
        if read.index is None:
            return Verdict("violation", "it came back without an index", (read,))
        highest = returns.highest_by(read.call - read.stale - slack - 1)
        if highest is not None and highest.index > read.index:
            why = (
                f"too old: {text(read)} may be {read.stale / 1e6:g} ms old, and misses "
                f"{text(highest.operation)}"
            )
            return Verdict("violation", why, (highest.operation, read))
    return OK


def check_once(applied: Iterable[tuple[str, int, Index]]) -> Verdict:
    """Check that no (client, sequence number) took effect at two indexes of the log."""
    first: dict[tuple[str, int], Index] = {}
    for client, number, index in applied:
        before = first.setdefault((client, number), index)
        if before != index:
            why = f"twice: request {number} of client {client} took effect at {before} and {index}"
            return Verdict("violation", why)
    return OK


class _Highest:
    """An operation, and its index."""

    __slots__ = ("index", "operation")

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.index = _index(operation)


class _Returns:
    """What was known when: the highest index of all that had returned by a moment."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        known = sorted(operations, key=lambda op: (_back(op), _index(op)))
        self._times = [_back(op) for op in known]
        self._highest = list(accumulate(known, _higher))

    def highest_by(self, moment: Ns) -> _Highest | None:
        """Of the operations that returned at ``moment`` or before; None if there are none."""
        count = bisect_right(self._times, moment)
        return _Highest(self._highest[count - 1]) if count else None


def _higher(one: Operation, other: Operation) -> Operation:
    return other if _index(other) > _index(one) else one


def _index(operation: Operation) -> Index:
    assert operation.index is not None, f"no index: {text(operation)}"
    return operation.index


def _back(operation: Operation) -> Ns:
    assert operation.back is not None, f"never came back: {text(operation)}"
    return operation.back
