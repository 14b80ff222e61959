"""The leader's duty to sessions whose node is lost: after a full lease without it, they end.

The node that holds a session's connection owns its liveness; when that node itself is not heard,
nobody judges its sessions but the leader, and the leader has not heard of them at all.  So each has
its whole lease, from the moment that the node was last heard, or that this leadership began: a
client whose node died moves elsewhere within it, and its attachment there makes the ``Expire``
that this would propose harmless.

Time in which this node itself stood still is held against nobody.  While there is no majority
nothing that is proposed here can commit.
"""

import heapq
from collections.abc import Callable, Iterable
from typing import Final

from waypost.catalog.sessions import Session
from waypost.commands import Command, Expire

LOOK_NS: Final = 250_000_000
LIST_AGAIN_NS: Final = 5_000_000_000
"""So often what a lost node owns is looked up anew: a late command may have added to it."""
EXPIRED_AT_ONCE_MAX: Final = 1_000
SILENT_NS: Final = 500_000_000
"""No lease is shorter, so who was silent for less is not looked at."""


class Owners:
    """Which node owns which sessions, and when it was last heard: what the duty needs to know."""

    def __init__(
        self,
        names: Callable[[], Iterable[str]],
        sessions_of: Callable[[str], Iterable[Session]],
        heard_ns: Callable[[str], int],
    ) -> None:
        self.names = names
        self.sessions_of = sessions_of
        self.heard_ns = heard_ns


class _Lost:
    """A node that is not heard: its sessions, the one whose lease ends first in front."""

    __slots__ = ("due", "listed_ns")

    def __init__(self, sessions: Iterable[Session], now_ns: int) -> None:
        self.due = [(each.ttl_ms, each.id, each.attachment) for each in sessions]
        heapq.heapify(self.due)
        self.listed_ns = now_ns


class Absences:
    """The duty of one node, as long as it leads."""

    def __init__(self, me: str, owners: Owners, propose: Callable[[Command], None]) -> None:
        self._me = me
        self._owners = owners
        self._propose = propose
        self._since_ns = 0
        self._looked_ns = 0
        self._lost: dict[str, _Lost] = {}

    def begin(self, now_ns: int) -> None:
        """This node leads from now on: every node counts as heard just now."""
        self._since_ns = now_ns
        self._lost.clear()

    def stalled(self, for_ns: int) -> None:
        """This node heard nobody for a while, by its own fault."""
        self._since_ns += for_ns
        self._lost.clear()

    def tick(self, now_ns: int) -> None:
        """Expire whose lease is over."""
        if now_ns - self._looked_ns < LOOK_NS:
            return
        self._looked_ns = now_ns
        for name in list(self._owners.names()):
            if name == self._me:
                continue
            heard_ns = max(self._owners.heard_ns(name), self._since_ns)
            if now_ns - heard_ns < SILENT_NS:
                self._lost.pop(name, None)
            else:
                self._expire(name, heard_ns, now_ns)

    def _expire(self, name: str, heard_ns: int, now_ns: int) -> None:
        lost = self._lost.get(name)
        if lost is None or now_ns - lost.listed_ns >= LIST_AGAIN_NS:
            lost = self._lost[name] = _Lost(self._owners.sessions_of(name), now_ns)
        silent_ms = (now_ns - heard_ns) // 1_000_000
        for _ in range(min(len(lost.due), EXPIRED_AT_ONCE_MAX)):
            if lost.due[0][0] > silent_ms:
                return
            _, session, attachment = heapq.heappop(lost.due)
            why = f"lease expired: its node {name} was not heard for {silent_ms / 1000:.1f} s"
            self._propose(Expire(session, attachment, why))
