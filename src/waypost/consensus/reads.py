"""Linearizable reads without the log: rounds at a leader, questions at a follower.

A leader serves a read when it knows that nobody led in its stead after the read came: every append
carries the number of the newest *round*, acks repeat it, and a round that a majority acknowledged
proves leadership at the moment when the round began (Ongaro's thesis, section 6.4, ReadIndex).  One
round is under way at a time and what comes meanwhile shares the next one; a round is never
confirmed by an older one's acks (etcd-io/raft#397).

Always true: a read is confirmed by a round that began after it came, at an index at or above the
commit index of that moment and the barrier of the leadership.
"""

from collections import deque

from waypost.consensus.core import FOREVER, Token
from waypost.consensus.entry import Index, Nid, Ns


class Rounds:
    """Of one leadership."""

    __slots__ = ("_flying", "_waiting", "confirmed", "confirmed_at", "confirmed_commit", "newest")

    def __init__(self) -> None:
        self.newest = 0
        self.confirmed = 0
        self.confirmed_at: Ns = 0
        """When the newest confirmed round began; 0 before the first."""
        self.confirmed_commit: Index = 0
        """The commit index at that moment."""
        self._flying: deque[tuple[int, Ns, Index]] = deque()  # round, when it began, commit index
        self._waiting: deque[tuple[int, Nid, int, Index]] = deque()  # round, asker, token, index

    @property
    def is_idle(self) -> bool:
        """Whether no round is under way."""
        return self.confirmed == self.newest

    @property
    def is_wanted(self) -> bool:
        """Whether a read waits for a round that has not begun."""
        return bool(self._waiting) and self._waiting[-1][0] > self.newest

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self, now: Ns, commit: Index) -> None:
        """Begin the next round."""
        self.newest += 1
        self._flying.append((self.newest, now, commit))

    def read(self, asker: Nid, token: int, index: Index) -> None:
        """Let a read wait for the first round that is yet to begin."""
        self._waiting.append((self.newest + 1, asker, token, index))

    def confirm(self, round_: int) -> None:
        """A majority acknowledged ``round_``."""
        assert round_ <= self.newest, f"round {round_} was never begun, {self.newest} is the newest"
        self.confirmed = max(self.confirmed, round_)
        flying = self._flying
        while flying and flying[0][0] <= round_:
            _, self.confirmed_at, self.confirmed_commit = flying.popleft()

    def take(self, barrier: Index, commit: Index) -> list[tuple[Nid, int, Index]]:
        """Reads that may be served: asker, token, index."""
        waiting = self._waiting
        if not waiting or waiting[0][0] > self.confirmed or commit < barrier:
            return []
        confirmed: list[tuple[Nid, int, Index]] = []
        while waiting and waiting[0][0] <= self.confirmed:
            _, asker, token, index = waiting.popleft()
            confirmed.append((asker, token, max(index, barrier)))
        return confirmed

    def give_up(self) -> list[tuple[Nid, int]]:
        """Leadership is over: who asked, with which token."""
        waiting = [(asker, token) for _, asker, token, _ in self._waiting]
        self._waiting.clear()
        return waiting


class Questions:
    """Reads at a follower: one question to the leader at a time, for all that came before it.

    Only the answer to the question under way counts: it was asked after its reads came.  Numbers
    begin at a random one, so that an answer to a question of before a restart is nobody's.
    """

    __slots__ = ("_asked", "_number", "_tokens", "until")

    def __init__(self, first_number: int) -> None:
        self._number = first_number
        self._asked: list[Token] = []  # with question _number
        self._tokens: list[Token] = []  # for the next one
        self.until: Ns = FOREVER
        """Until when the question under way waits for its answer."""

    def __len__(self) -> int:
        return len(self._asked) + len(self._tokens)

    def read(self, token: Token) -> None:
        """A read came."""
        self._tokens.append(token)

    def next(self, until: Ns) -> int:
        """Number of the question to ask now; 0 for none."""
        if self._asked or not self._tokens:
            return 0
        self._asked, self._tokens = self._tokens, []
        self._number += 1
        self.until = until
        return self._number

    def answered(self, number: int) -> list[Token]:
        """The reads that question ``number`` was asked for; none if it is not under way."""
        if number != self._number:
            return []
        asked, self._asked = self._asked, []
        self.until = FOREVER
        return asked

    def give_up(self) -> list[Token]:
        """Nobody will answer: the reads that waited."""
        waiting = self._asked + self._tokens
        self._asked, self._tokens, self.until = [], [], FOREVER
        return waiting


class Freshness:
    """Since when, at most, the applied state may be out of date.

    Offered a moment and a commit index, it grants the moment once that index is applied.  One offer
    waits at a time: replaced by a newer one, none would ever be granted under load.
    """

    __slots__ = ("_commit", "_offered", "at")

    def __init__(self) -> None:
        self.at: Ns = 0
        """What is applied is no older than what was committed at this moment; 0: never yet."""
        self._offered: Ns = 0
        self._commit: Index = 0

    def offer(self, moment: Ns, commit: Index, applied: Index) -> None:
        """Everything that was committed at ``moment`` stands at or below ``commit``."""
        if commit <= applied:
            self.at = max(self.at, moment)
        elif not self._offered:
            self._offered, self._commit = moment, commit

    def applied(self, index: Index) -> None:
        """Everything up to ``index`` is applied."""
        if self._offered and index >= self._commit:
            self.at = max(self.at, self._offered)
            self._offered = 0
