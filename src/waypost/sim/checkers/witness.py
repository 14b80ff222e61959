"""The witness checker: the log itself says in which order the operations happened.

Every write says at which index of the log it stands, every read which index it observed.  So the
linearization is given, and checking it takes a sort and a walk:

* real time: nothing that was called after another returned stands before it in the order;
* meaning: replayed in that order, the model answers what the clients were answered.

Sound in both directions: a witness that passes is a proof of linearizability, and one that fails
is a bug, of the store or of the index that it reported.  Reads that may be stale take part in the
second only (what they saw was once true); ``sessions`` checks how old they were.

Writes of one index whose places are unknown are tried in every order, up to so many.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import Final, TypeVar

from waypost.sim.checkers.history import FOREVER, Operation, Verdict, by_key, text
from waypost.sim.checkers.models import Model

S = TypeVar("S", bound=Hashable)

UNPLACED_MAX: Final = 8
"""So many writes of one key at one index, without places, are put in order by trying."""


def check_witness(model: Model[S], operations: Iterable[Operation]) -> Verdict:
    """Check a history by its indexes; see ``history.settled`` for what never came back.

    Every operation has an index, or came back from nowhere, which is a violation too.
    """
    reads = model.is_read
    rows: list[tuple[int, int, int, int, Operation]] = []
    for number, operation in enumerate(operations):
        index = operation.index
        if index is None:
            if operation.back is None:
                continue  # never observed
            return Verdict("violation", "it came back without an index", (operation,))
        if reads(operation):
            if operation.back is not None:
                rows.append((index, FOREVER, operation.call, number, operation))
        else:
            rows.append((index, operation.place, operation.call, number, operation))
    rows.sort()
    ordered = [row[4] for row in rows]
    verdict = _check_real_time(ordered)
    return verdict if verdict is not None else _replay(model, ordered)


def _check_real_time(ordered: Sequence[Operation]) -> Verdict | None:
    """From the end: what stands later must not have returned before this was called.

    Writes of one index and unknown places are in the order of their calls, so they never object.
    """
    earliest = FOREVER
    later: Operation | None = None
    for operation in reversed(ordered):
        if operation.stale != 0:
            continue
        if operation.call > earliest:
            assert later is not None
            return Verdict(
                "violation",
                f"real time: {text(later)} returned before {text(operation)} was called, and "
                "stands after it",
                (later, operation),
                steps=len(ordered),
            )
        if operation.back is not None and operation.back < earliest:
            earliest, later = operation.back, operation
    return None


def _replay(model: Model[S], ordered: Sequence[Operation]) -> Verdict:
    step, is_read = model.step, model.is_read
    states: dict[str, tuple[S, ...]] = {}  # by key: the possible ones, nearly always one
    last: dict[str, Operation] = {}
    initial = (model.initial,)
    at, count = 0, len(ordered)
    while at < count:
        operation = ordered[at]
        key = operation.key
        before = states.get(key, initial)
        if operation.place < 0 and not is_read(operation):
            end = _end_of_index(model, ordered, at)
            for key, some in by_key(ordered[at:end]).items():
                verdict, after = _in_any_order(model, states.get(key, initial), some)
                if verdict is not None:
                    return verdict
                states[key], last[key] = after, some[-1]
            at = end
            continue
        if len(before) == 1:
            only = step(before[0], operation)
            after = () if only is None else (only,)
        else:
            after = tuple(s for s in (step(each, operation) for each in before) if s is not None)
        previous = last.get(key)
        if not after:
            return _impossible(operation, previous, before, at)
        if not is_read(operation):
            if previous is not None and _stand_at_one_place(previous, operation):
                why = f"two writes stand at {operation.index}, place {operation.place}"
                return Verdict("violation", why, (previous, operation), steps=at)
            last[key] = operation
        states[key] = after
        at += 1
    return Verdict("ok", steps=count)


def _stand_at_one_place(one: Operation, other: Operation) -> bool:
    return (one.index, one.place) == (other.index, other.place)


def _end_of_index(model: Model[S], ordered: Sequence[Operation], at: int) -> int:
    """Where the writes of the index at ``at`` end."""
    index = ordered[at].index
    while at < len(ordered) and ordered[at].index == index and not model.is_read(ordered[at]):
        at += 1
    return at


def _in_any_order(
    model: Model[S], before: tuple[S, ...], group: Sequence[Operation]
) -> tuple[Verdict | None, tuple[S, ...]]:
    """All states that some order of the group leads to; a verdict if there is none."""
    if len(group) > UNPLACED_MAX:
        why = (
            f"{len(group)} writes of {group[0].key!r} at index {group[0].index} have no place: at "
            f"most {UNPLACED_MAX} are put in order by trying"
        )
        return Verdict("unknown", why, tuple(group)), ()
    reached: dict[int, dict[S, None]] = {0: dict.fromkeys(before)}
    for _ in group:
        following: dict[int, dict[S, None]] = {}
        for done, some in reached.items():
            for number, operation in enumerate(group):
                if done >> number & 1:
                    continue
                for state in some:
                    after = model.step(state, operation)
                    if after is not None:
                        following.setdefault(done | 1 << number, {})[after] = None
        reached = following
    states = tuple(reached.get((1 << len(group)) - 1, ()))
    if not states:
        why = f"meaning: no order of the writes at index {group[0].index} gives what they answered"
        return Verdict("violation", why, tuple(group)), ()
    return None, states


def _impossible(
    operation: Operation, last: Operation | None, states: Sequence[Hashable], steps: int
) -> Verdict:
    known = " or ".join(map(repr, states[:3]))
    culprits = (operation,) if last is None else (last, operation)
    why = f"meaning: {text(operation)} cannot be: at that index of the log the state was {known}"
    return Verdict("violation", why, culprits, steps=steps)
