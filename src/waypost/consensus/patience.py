"""How long a silence is borne before it means anything: T, and longer where even the living pause.

A fixed T elects without need wherever processes wait for a CPU or a network for longer than that,
and every needless election costs what it was meant to save.  So each member keeps the longest
silence that ended by itself lately, and bears ``BORNE`` times as much, from T to ``LONGEST`` T
(compare the φ accrual detector, Hayashibara et al., SRDS 2004: what is suspicious is what was not
seen before).  A leader whose process has ended is given up at once, whatever is borne: see
``Roles.gone``.

Always true: it is never less than T, so whatever rests on T (leases) rests on it too.
"""

from typing import Final

from waypost.consensus.entry import Ns

BORNE: Final = 3
LONGEST: Final = 5
KEPT: Final = 64
"""In T: a silence is remembered for so long at least, and for twice as long at most."""


class Patience:
    """Of one member."""

    __slots__ = ("_before", "_election", "_until", "_worst", "limit")

    def __init__(self, election: Ns) -> None:
        self._election = election
        self._worst: Ns = 0
        self._before: Ns = 0
        self._until: Ns = 0
        self.limit: Ns = election
        """A silence up to here is nothing unusual."""

    def bore(self, silence: Ns, now: Ns) -> None:
        """Somebody was silent for so long, and is heard again."""
        if silence > LONGEST * self._election:
            return  # an outage, which says nothing of what is usual
        if now >= self._until:
            self._before, self._worst = self._worst, 0
            self._until = now + KEPT * self._election
        elif silence <= self._worst:
            return
        self._worst = max(self._worst, silence)
        worst = max(self._worst, self._before)
        self.limit = min(max(self._election, BORNE * worst), LONGEST * self._election)
