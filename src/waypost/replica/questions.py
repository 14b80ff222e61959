"""Linearizable reads of a node that has no core: it asks the leader where they must stand.

The answer counts for a read only if it was asked for after the read came, so each question has a
number of its own; numbers begin at a random one, so that the answer to a question of before a
restart is nobody's.
"""

from collections.abc import Callable

from waypost.consensus.core import FOREVER, Index, Nid, Ns, Token
from waypost.replica.outbox import Outbox
from waypost.replica.peer_messages import AskIndex
from waypost.replica.tokens import Tokens

PATIENCE_ELECTIONS = 2


class Questions:
    """What is asked and not answered."""

    def __init__(
        self, lineage: int, election: Ns, draw: Callable[[], float], outbox: Outbox, tokens: Tokens
    ) -> None:
        self._lineage = lineage
        self._patience = PATIENCE_ELECTIONS * election
        self._outbox = outbox
        self._tokens = tokens
        self._number = int(draw() * (1 << 52))
        self._asked: dict[int, tuple[Token, Ns]] = {}  # oldest first
        self.deadline: Ns = FOREVER

    def ask(self, now: Ns, leader: Nid, token: Token) -> None:
        """Ask for one read, or for many that share a token."""
        if leader == 0:
            self._outbox.reads_failed.append(token)
            return
        self._number += 1
        self._asked[self._number] = (token, now + self._patience)
        self.deadline = min(self.deadline, now + self._patience)
        self._outbox.say(leader, AskIndex(self._lineage, self._number))

    def answered(self, number: int, index: Index) -> None:
        """The leader said where; index 0: it does not lead, or could not confirm that it does."""
        asked = self._asked.pop(number, None)
        if asked is None:
            return
        if index:
            self._tokens.confirmed_elsewhere(asked[0], index)
        else:
            self._outbox.reads_failed.append(asked[0])

    def tick(self, now: Ns) -> None:
        """Give up what waits for too long."""
        for number, (token, until) in list(self._asked.items()):
            if now < until:
                break
            del self._asked[number]
            self._outbox.reads_failed.append(token)
        first = next(iter(self._asked.values()), None)
        self.deadline = FOREVER if first is None else first[1]
