"""Is there any order at all?  A linearizability checker that trusts no index.

The search of Wing and Gong ("Testing and verifying concurrent objects", 1993) with the cache of
Lowe ("Testing for linearizability", 2017), as in porcupine: take the first call whose answer fits
the state, lift it and its return out of the list of events; on meeting the return of an operation
that is not in order yet, go back; never come to the same operations and state twice.  Each key is
checked on its own (linearizability is local).

Two things keep it fast.  A read that fits now is taken at once and for good: it changes nothing,
so whatever order puts it later may as well put it here.  And what never came back may be left out:
the search ends when all that returned is in order.

The problem is NP-complete (Gibbons and Korach, 1997): the cost grows with how many operations are
open at a time, and proving a violation costs most.  So there is a budget, and beyond it the
verdict is ``unknown``, never ``ok``.
"""

from collections.abc import Hashable, Iterable
from typing import Final, Generic, TypeVar

import msgspec

from waypost.sim.checkers.history import Operation, Verdict, by_key, text
from waypost.sim.checkers.models import Model

S = TypeVar("S", bound=Hashable)

STEPS_MAX: Final = 2_000_000


def check_linearizable(
    model: Model[S], operations: Iterable[Operation], *, steps_max: int = STEPS_MAX
) -> Verdict:
    """Look for an order, key by key; ``steps_max`` bounds the steps of all keys together."""
    steps = 0
    undecided: Verdict | None = None
    for key, some in by_key(operations).items():
        verdict = _Search(model, some).run(steps_max - steps)
        steps += verdict.steps
        if verdict.outcome == "violation":
            return msgspec.structs.replace(verdict, why=f"{key}: {verdict.why}", steps=steps)
        if verdict.outcome == "unknown" and undecided is None:
            undecided = msgspec.structs.replace(verdict, why=f"{key}: {verdict.why}")
    if undecided is not None:
        return msgspec.structs.replace(undecided, steps=steps)
    return Verdict("ok", steps=steps)


class _Search(Generic[S]):
    """The list of events of one key, and the way through it.

    Event ``2 n + 1`` is the call of operation ``n``, ``2 n + 2`` its return; 0 is the head.  An
    operation that never came back has a return that is not in the list.  Operations are numbered
    in the order of their calls.
    """

    def __init__(self, model: Model[S], operations: Iterable[Operation]) -> None:
        self._model = model
        ops = [op for op in operations if not _says_nothing(model, op)]
        ops.sort(key=lambda op: op.call)
        self._ops = ops
        self._reads = [model.is_read(op) for op in ops]
        events = [(op.call, 0, 2 * n + 1) for n, op in enumerate(ops)]
        # At the same moment a call comes first: such operations are concurrent.
        events += [(op.back, 1, 2 * n + 2) for n, op in enumerate(ops) if op.back is not None]
        events.sort()
        self._next = [0] * (2 * len(ops) + 3)
        self._before = [0] * (2 * len(ops) + 3)
        at = 0
        for _, _, event in events:
            self._next[at], self._before[event] = event, at
            at = event
        self._next[at] = 0
        self._due = sum(op.back is not None for op in ops)

    def run(self, steps_max: int) -> Verdict:
        """Search."""
        model, ops, reads, following = self._model, self._ops, self._reads, self._next
        step = model.step
        seen: set[tuple[int, S]] = set()
        stack: list[tuple[int, S]] = []  # operations in order, each with the state before it
        state, done, due, steps = model.initial, 0, self._due, 0
        longest: list[int] = []
        event = following[0]
        while due:
            if event and event & 1:
                number = event >> 1
                steps += 1
                if steps > steps_max:
                    why = f"undecided after {steps_max} steps"
                    return Verdict("unknown", why, order=self._named(longest), steps=steps - 1)
                after = step(state, ops[number])
                if after is not None:
                    key = (done | 1 << number, after)
                    if reads[number] or key not in seen:
                        if not reads[number]:
                            seen.add(key)
                        stack.append((number, state))
                        state, done = after, key[0]
                        due -= ops[number].back is not None
                        self._lift(event)
                        event = following[0]
                        continue
                event = following[event]
                continue
            # A return that must not be passed, or the end of the list.
            if len(stack) > len(longest):
                longest = [number for number, _ in stack]
            while True:
                if not stack:
                    return self._no_order(longest, steps)
                number, state = stack.pop()
                done &= ~(1 << number)
                due += ops[number].back is not None
                self._put_back(2 * number + 1)
                if not reads[number]:
                    break
            event = following[2 * number + 1]
        return Verdict("ok", steps=steps)

    def _lift(self, call: int) -> None:
        following, before = self._next, self._before
        a, b = before[call], following[call]
        following[a] = b
        before[b] = a
        if self._ops[call >> 1].back is not None:
            a, b = before[call + 1], following[call + 1]
            following[a] = b
            before[b] = a

    def _put_back(self, call: int) -> None:
        following, before = self._next, self._before
        if self._ops[call >> 1].back is not None:
            a, b = before[call + 1], following[call + 1]
            following[a] = before[b] = call + 1
        a, b = before[call], following[call]
        following[a] = before[b] = call

    def _named(self, order: list[int]) -> tuple[Operation, ...]:
        return tuple(self._ops[number] for number in order)

    def _no_order(self, longest: list[int], steps: int) -> Verdict:
        """Nothing fits; name the operation that returned first of those left out."""
        placed = set(longest)
        left = [
            (op.back, n)
            for n, op in enumerate(self._ops)
            if n not in placed and op.back is not None
        ]
        culprit = self._ops[min(left)[1]]
        why = f"no order explains it; the longest ends before {text(culprit)}"
        return Verdict("violation", why, (culprit,), self._named(longest), steps)


def _says_nothing(model: Model[S], operation: Operation) -> bool:
    """Whether it is a read that never came back, or one that might have been stale."""
    return model.is_read(operation) and (operation.back is None or operation.stale != 0)
