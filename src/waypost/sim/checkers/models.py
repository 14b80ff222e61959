"""What a registry may answer when requests come one at a time: the sequential specifications.

A model's state is immutable and hashable, so that a search may come back to it.  ``step`` gives
the state after an operation, or None if its answer cannot be given in that state.  What never came
back may have had any answer.
"""

from bisect import bisect_left
from collections.abc import Hashable
from typing import Final, Protocol, TypeVar

from waypost.sim.checkers.history import Instances, Operation

S = TypeVar("S", bound=Hashable)

OK: Final = "ok"
UNKNOWN: Final = "unknown"


class Model(Protocol[S]):
    """A sequential specification of one key."""

    @property
    def initial(self) -> S:
        """The state before any operation."""
        ...

    def is_read(self, operation: Operation) -> bool:
        """Whether it changes nothing in any state."""
        ...

    def step(self, state: S, operation: Operation) -> S | None:
        """The state after it; None if it cannot have answered so."""
        ...


class Services:
    """The instances of one service.

        register(id, value)        ok
        deregister(id)             ok, or unknown
        health(id, health)         ok, or unknown
        resolve()                  every instance, sorted by id
        resolve("passing")         those that are passing or warning

    ``value`` is what the registration wrote (a port, say); distinct values make a history say
    more.  An instance begins as passing; a registration leaves a draining one draining, and makes
    any other passing.  No answer about one instance depends on another, so a history without one
    of them, out of the answers too, is a history as well.
    """

    initial: Instances = ()

    def is_read(self, operation: Operation) -> bool:
        """A resolve changes nothing."""
        return operation.kind == "resolve"

    def step(self, state: Instances, operation: Operation) -> Instances | None:
        """See the class."""
        kind = operation.kind
        if kind == "resolve":
            seen = operation.result
            if operation.args:
                return state if seen == _usable(state) else None
            return state if seen == state else None
        name = operation.args[0]
        at = bisect_left(state, (name,))
        held = state[at] if at < len(state) and state[at][0] == name else None
        if kind == "register":
            if operation.back is not None and operation.result != OK:
                return None
            health = "draining" if held is not None and held[2] == "draining" else "passing"
            row = (name, operation.args[1], health)
            return (*state[:at], row, *state[at + (held is not None) :])
        if held is None:
            return state if operation.back is None or operation.result == UNKNOWN else None
        if operation.back is not None and operation.result != OK:
            return None
        if kind == "deregister":
            return state[:at] + state[at + 1 :]
        assert kind == "health", f"a service knows no {kind!r}"
        return (*state[:at], (name, held[1], operation.args[1]), *state[at + 1 :])


class Counter:
    """How often something took effect: ``add(n)`` and ``read()`` answer with the sum.

    With a key for each session: what is retried and counted twice shows in the next answer.
    """

    initial: int = 0

    def is_read(self, operation: Operation) -> bool:
        """A read changes nothing."""
        return operation.kind == "read"

    def step(self, state: int, operation: Operation) -> int | None:
        """See the class."""
        if operation.kind == "read":
            return state if operation.result == state else None
        assert operation.kind == "add", f"a counter knows no {operation.kind!r}"
        after = state + int(operation.args[0])
        return after if operation.back is None or operation.result == after else None


class Cell:
    """One value: ``write(v)`` ok, ``cas(a, b)`` ok or no, ``read()`` the value."""

    initial: str = ""

    def is_read(self, operation: Operation) -> bool:
        """A read changes nothing."""
        return operation.kind == "read"

    def step(self, state: str, operation: Operation) -> str | None:
        """See the class."""
        match operation.kind:
            case "read":
                return state if operation.result == state else None
            case "write":
                return operation.args[0] if operation.result in (None, OK) else None
            case _:
                assert operation.kind == "cas", f"a cell knows no {operation.kind!r}"
                fits = state == operation.args[0]
                if operation.back is not None and fits != (operation.result == OK):
                    return None
                return operation.args[1] if fits else state


class Registry:
    """Services and keys beside each other: a key's operations are those of ``Cell``."""

    initial: Instances | str = ()

    def __init__(self) -> None:
        self._services = Services()
        self._cell = Cell()

    def is_read(self, operation: Operation) -> bool:
        """A resolve, or a read of a key."""
        return operation.kind in ("resolve", "read")

    def step(self, state: Instances | str, operation: Operation) -> Instances | str | None:
        """See ``Services`` and ``Cell``."""
        if operation.kind in ("write", "cas", "read"):
            return self._cell.step(state if isinstance(state, str) else "", operation)
        assert not isinstance(state, str), f"{operation.key} is a key, not a service"
        return self._services.step(state, operation)


def _usable(state: Instances) -> Instances:
    return tuple(row for row in state if row[2] in ("passing", "warning"))
