"""Who waits for which entry: each token is answered exactly once (G4).

A leader answers *committed* when the entry commits.  When it loses its leadership its proposals are
*orphans*: whoever leads next may commit them, or put others in their place, and what is committed
at the index tells which.  Truncating an entry proves nothing: another log may still hold it.  So an
orphan waits for its index, and when that takes too long, the answer is *unknown*.

Always true: ``waiting`` is in the order of the log; a token is in one place.
"""

from collections import deque

from waypost.consensus.core import FOREVER, Done, Token
from waypost.consensus.entry import Ballot, Index, Nid, Ns
from waypost.consensus.log import Log


class Answers:
    """The tokens of one member."""

    __slots__ = ("_me", "_orphans", "_waiting", "done", "patience", "uncommitted_bytes")

    def __init__(self, me: Nid) -> None:
        self._me = me
        self._waiting: deque[tuple[Index, Token, int]] = deque()  # index, token, payload bytes
        self._orphans: list[tuple[Index, Ballot, Token]] = []
        self.done: list[Done] = []
        self.uncommitted_bytes = 0
        self.patience: Ns = FOREVER
        """Until when orphans wait."""

    def refuse(self, token: Token, hint: Nid) -> None:
        """It is certainly not in the log."""
        self.done.append(Done(token, "refused", 0, hint))

    def expect(self, index: Index, token: Token, size: int) -> None:
        """The entry at ``index`` was proposed with ``token``."""
        self._waiting.append((index, token, size))
        self.uncommitted_bytes += size

    def committed(self, upto: Index) -> None:
        """What this leader proposed is committed up to ``upto``."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= upto:
            index, token, size = waiting.popleft()
            self.uncommitted_bytes -= size
            self.done.append(Done(token, "committed", index, self._me))

    def orphan(self, ballot: Ballot, until: Ns) -> None:
        """The leadership that proposed them is over."""
        if self._waiting:
            self._orphans += [(index, ballot, token) for index, token, _ in self._waiting]
            self._orphans.sort()
            self._waiting.clear()
            self.uncommitted_bytes = 0
            self.patience = until

    def settle(self, log: Log, commit: Index, leader: Nid) -> None:
        """Tell what became of orphans up to ``commit``."""
        if not self._orphans or self._orphans[0][0] > commit:
            return
        rest: list[tuple[Index, Ballot, Token]] = []
        for index, ballot, token in self._orphans:
            if index > commit:
                rest.append((index, ballot, token))
            elif index <= log.base:
                self.done.append(Done(token, "unknown", 0, leader))
            elif log.ballot_at(index) == ballot:
                self.done.append(Done(token, "committed", index, leader))
            else:
                self.done.append(Done(token, "lost", 0, leader))
        self._keep(rest)

    def lose_beyond(self, seal: Index, leader: Nid) -> None:
        """The epoch ends at ``seal``: what stands after it is never applied."""
        while self._waiting and self._waiting[-1][0] > seal:
            _, token, size = self._waiting.pop()
            self.uncommitted_bytes -= size
            self.done.append(Done(token, "lost", 0, leader))
        for index, _, token in self._orphans:
            if index > seal:
                self.done.append(Done(token, "lost", 0, leader))
        self._keep([orphan for orphan in self._orphans if orphan[0] <= seal])

    def give_up(self, leader: Nid) -> None:
        """Nobody settled the orphans in time."""
        self.done += [Done(token, "unknown", 0, leader) for _, _, token in self._orphans]
        self._keep([])

    def _keep(self, orphans: list[tuple[Index, Ballot, Token]]) -> None:
        self._orphans = orphans
        if not orphans:
            self.patience = FOREVER
