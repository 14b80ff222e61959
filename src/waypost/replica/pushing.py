"""Tells the newest epoch to those who have to know it, until it is released (rule of epochs).

Whoever knows of an epoch pushes it: the new members cannot ask for what they never heard of.
"""

from collections.abc import Iterable

from waypost.consensus.core import FOREVER, Nid, Ns

FIRST_WAIT: Ns = 50_000_000
LAST_WAIT: Ns = 2_000_000_000


class Pushing:
    """One node's duty to tell."""

    def __init__(self) -> None:
        self.deadline: Ns = FOREVER
        self._wait: Ns = FIRST_WAIT
        self._knowing: set[Nid] = set()

    @property
    def is_at_it(self) -> bool:
        """Whether there is somebody to tell."""
        return self.deadline != FOREVER

    def begin(self, now: Ns) -> None:
        """There is a newer epoch to tell of."""
        self.deadline = now
        self._wait = FIRST_WAIT
        self._knowing.clear()

    def end(self) -> None:
        """It is released: who still does not know will be told when it speaks."""
        self.deadline = FOREVER

    def knows(self, nid: Nid) -> None:
        """This one need not be told."""
        if self.is_at_it:
            self._knowing.add(nid)

    def due(self, now: Ns, targets: Iterable[Nid]) -> list[Nid]:
        """Whom to tell now; asks to be called again after a while that doubles."""
        self.deadline = now + self._wait
        self._wait = min(2 * self._wait, LAST_WAIT)
        return [nid for nid in targets if nid not in self._knowing]
