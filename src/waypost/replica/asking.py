"""A node without a core asks for what is committed: whom, and when it asks another.

Always true: one ``Fetch`` is under way; only its own answer leads to the next, so doubled messages
do not multiply.  What an answer brings is taken in any case: it is committed.
"""

from collections.abc import Callable

from waypost.consensus.core import FOREVER, Nid, Ns
from waypost.consensus.entry import parse
from waypost.replica.handover import Handover
from waypost.replica.outbox import Outbox
from waypost.replica.peer_messages import Fetch, Fetched

STALE_AFTER_ELECTIONS = 4
"""An answer that is older comes from a node that is cut off itself."""


class Asking:
    """One node's question, going round among those who may know."""

    def __init__(
        self, log: Handover, outbox: Outbox, election: Ns, draw: Callable[[], float]
    ) -> None:
        self._log = log
        self._outbox = outbox
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
    def _target(self) -> Nid:
        return self._targets[self._position % len(self._targets)]

    def begin(self, now: Ns) -> None:
        """Ask the peers of the newest epoch from now on; the one that answers already is kept."""
        current = self._target if self._targets else 0
        self._targets = targets = tuple(self._log.known.peers)
        self.deadline = now if targets else FOREVER
        self._sent = -1
        if current in targets:
            self._position = targets.index(current)
        else:
            self._position = int(self._draw() * len(targets))

    def end(self) -> None:
        """A core knows better."""
        self._targets = ()
        self.deadline = FOREVER

    def tick(self, now: Ns) -> None:
        """An answer is overdue: ask another, unless this is the first question."""
        if self._sent >= 0:
            self._position += 1
        self._ask(now)

    def _ask(self, now: Ns) -> None:
        log = self._log
        if not self._targets or log.held is None:
            return
        self._sent = now
        self.deadline = now + self._election
        known, commit = log.known, log.held.commit
        fetch = Fetch(known.lineage, known.number, commit, now, log.may_have_voted, known.coming)
        self._outbox.say(self._target, fetch)

    def answered(self, now: Ns, src: Nid, message: Fetched) -> None:
        """Take what came, and ask on."""
        log, held = self._log, self._log.held
        known = log.known
        if held is None or known.newest is None:
            return  # it answers a question of an earlier life
        if message.released and message.number == known.number:
            log.release(message.number)
        before = held.commit
        if message.after <= before:
            log.take([parse(frame) for frame in message.frames[before - message.after :]])
        if log.held is None:
            return
        if message.number == known.number and message.leader != self.leader:
            self.leader = message.leader
            self._outbox.status_is_due = True
        if message.age >= 0 and log.commit >= message.commit:
            self.fresh = max(self.fresh, message.echo - message.age)
        if self._targets and src == self._target and message.echo == self._sent:
            is_fresh = 0 <= message.age <= STALE_AFTER_ELECTIONS * self._election
            if log.commit == before and (known.coming is not None or not is_fresh):
                self._position += 1
            elif self.leader in self._targets:
                # It has what is new first, and must know who wants to become a member.
                self._position = self._targets.index(self.leader)
            self._ask(now)
