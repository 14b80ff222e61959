"""What a forked child does with the connections of its parent: it lets go of them, without a word.

It must not speak on them, and it must not keep them open either: the registry would believe the
parent alive after it died.  Each socket is replaced by /dev/null, under the same number: the other
side notices nothing, and whatever still refers to the number in the child closes something
harmless.
"""

import os
import weakref
from typing import Protocol


class Inherited(Protocol):
    """Something that holds a socket."""

    def drop_in_child(self, null: int) -> None:
        """Put ``null`` in the socket's place."""
        ...


_inherited: "weakref.WeakSet[Inherited]" = weakref.WeakSet()


def leave_in_children(inherited: Inherited) -> None:
    """Have every child that is forked from now on let go of it."""
    _inherited.add(inherited)


def _let_go() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for inherited in list(_inherited):
        inherited.drop_in_child(null)
    os.close(null)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
