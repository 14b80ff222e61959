"""Whom a node without a core asks for the log, and when it asks another.

Always true: one ``Fetch`` is under way; only its own answer leads to the next, so doubled messages
do not multiply.
"""

from collections.abc import Callable, Sequence

from waypost.consensus.core import FOREVER, Nid, Ns

STALE_AFTER_ELECTIONS = 4


class Asking:
    """One node's question, going round among those who may know."""

    def __init__(self, election: Ns, draw: Callable[[], float]) -> None:
        self._election = election
        self._draw = draw
        self._targets: tuple[Nid, ...] = ()
        self._position = 0
        self._sent: Ns = -1
        self.deadline: Ns = FOREVER
        """When an answer is overdue, or the first question is due."""
        self.fresh: Ns = 0
        """What is held here is no older than what was committed at this moment of our clock."""
        self.leader: Nid = 0
        """Who leads, as far as the answers tell."""

    @property
    def target(self) -> Nid:
        """Who is asked; 0 when there is nobody."""
        return self._targets[self._position % len(self._targets)] if self._targets else 0

    def begin(self, now: Ns, targets: Sequence[Nid]) -> None:
        """Ask among these, from now on; the one that answers already is kept."""
        current = self.target
        self._targets = tuple(targets)
        self.deadline = now if targets else FOREVER
        self._sent = -1
        if current in self._targets:
            self._position = self._targets.index(current)
        else:
            self._position = int(self._draw() * len(targets))

    def end(self) -> None:
        """A core knows better."""
        self._targets = ()
        self.deadline = FOREVER

    def next_target(self, now: Ns) -> Nid:
        """It is time to ask: whoever did not answer is passed over.  Returns whom, 0: nobody."""
        if self._sent >= 0:
            self._position += 1
        return self.again(now)

    def again(self, now: Ns) -> Nid:
        """Ask the same one; returns who that is."""
        if not self._targets:
            return 0
        self._sent = now
        self.deadline = now + self._election
        return self.target

    def is_good(self, age: Ns) -> bool:
        """Whether an answer of this age is as good as any: its sender hears of what happens."""
        return 0 <= age <= STALE_AFTER_ELECTIONS * self._election

    def is_answer(self, src: Nid, echo: Ns) -> bool:
        """Whether this is the answer to the question that is under way."""
        return src == self.target and echo == self._sent
