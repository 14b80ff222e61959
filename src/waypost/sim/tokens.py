"""Questions and answers: each token has one answer, and it is true (G4).

Always true: a payload is in the log at most as often as it was proposed, less the times that a
proposal of it was said to be refused or lost.
"""

import msgspec

from waypost.consensus.core import Done, Entry, Index, Nid, Token
from waypost.sim.violation import Violation


class Life(msgspec.Struct):
    """What the oracle remembers of one process."""

    nid: Nid
    commit: Index
    applied: Index
    seq: int = 0
    asked: dict[Token, bytes] = {}
    """Proposals and reads without an answer yet; a read is empty."""


class Tokens:
    """What all processes were asked, and what they answered."""

    def __init__(self, shadow: list[Entry]) -> None:
        self._shadow = shadow
        self._chances: dict[bytes, int] = {}  # how often a payload may yet be committed

    def asks(self, life: Life, token: Token, payload: bytes = b"") -> None:
        """A process proposes, or asks for a read."""
        life.asked[token] = payload
        if payload:
            self._chances[payload] = self._chances.get(payload, 0) + 1

    def answers(self, life: Life, done: Done) -> None:
        """And is answered: once, and truly (G4)."""
        payload = _answered(life, done.token)
        if payload and done.what in ("refused", "lost"):
            self.spend(payload, 0)
        elif done.what == "committed":
            is_known = payload and done.index <= len(self._shadow)
            if is_known and bytes(self._shadow[done.index - 1].payload) != payload:
                raise Violation(
                    "G4", f"node {life.nid} says {done}, and something else stands there"
                )

    def spend(self, payload: bytes, index: Index) -> None:
        """It stands at ``index``, or, 0, it never will."""
        chances = self._chances.get(payload)
        if chances is None:
            return
        if chances == 0:
            raise Violation(
                "G4",
                f"a proposal was refused or lost, and is in the log (entry {index})"
                if index
                else "a proposal is in the log, and then refused or lost",
            )
        self._chances[payload] = chances - 1

    def confirms(self, life: Life, token: Token, index: Index, committed: Index) -> None:
        """A read may be served; when it was asked for, ``committed`` was committed (I8)."""
        _answered(life, token)
        if index < committed:
            raise Violation(
                "I8",
                f"node {life.nid} confirms a linearizable read at {index}, and {committed} had "
                "been committed when it was asked for",
            )

    def fails_read(self, life: Life, token: Token) -> None:
        """A read will not be served."""
        _answered(life, token)


def _answered(life: Life, token: Token) -> bytes:
    payload = life.asked.pop(token, None)
    if payload is None:
        raise Violation("G4", f"node {life.nid} answers {token} twice, or unasked")
    return payload
