"""Who is alive: the node that holds a session's connection owns its liveness.

Pings and renewals cost neither the log nor the leader anything: hearing from a connection is one
attribute store.  Deadlines stand in a heap and are looked at lazily: a session that has been heard
from since is pushed back when its turn comes.  Only a change of state is proposed: ``Suspect`` when
a connection breaks, ``Expire`` when its grace or its lease is over.

Time is this node's own monotonic clock.  Time that the node itself was stalled is added to every
lease: what a stopped or starved node did not hear is not held against anybody (Lifeguard, Dadgar et
al., DSN 2018).
"""

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

from waypost.catalog.sessions import Session
from waypost.commands import Command, Expire, Suspect

PINGS_PER_LEASE: Final = 3
_RETRY_NS: Final = 1_000_000_000
_STALE_MAX: Final = 1_024


class Connection(Protocol):
    """What keeps a session alive."""

    @property
    def heard_ns(self) -> int:
        """When anything last came from it."""
        ...

    def ping(self) -> None:
        """Ask it to say something."""
        ...

    def session_moved(self) -> None:
        """Its session is attached to another connection now."""
        ...

    def session_expired(self) -> None:
        """Its session is over: nothing was heard of it for a whole lease."""
        ...


class Held:
    """One session that this node owns."""

    __slots__ = (
        "attachment",
        "connection",
        "deadline_ns",
        "grace_ns",
        "heard_ns",
        "id",
        "is_expiring",
        "ttl_ns",
    )

    def __init__(
        self, session: str, attachment: int, ttl_ns: int, grace_ns: int, now_ns: int
    ) -> None:
        self.id = session
        self.attachment = attachment
        self.ttl_ns = ttl_ns
        self.grace_ns = grace_ns
        self.heard_ns = now_ns
        self.connection: Connection | None = None
        self.deadline_ns = now_ns + ttl_ns
        self.is_expiring = False


class Sessions:
    """The sessions that this node owns.

    Invariant: every held session that is not about to be expired has an entry in the heap, at or
    before its deadline.
    """

    def __init__(self, propose: Callable[[Command], None]) -> None:
        self._propose = propose
        self._held: dict[str, Held] = {}
        self._heap: list[tuple[int, int, str, int]] = []
        self._pushes = 0

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(self._held.values())

    def find(self, session: str) -> Held | None:
        """The session, if this node owns it."""
        return self._held.get(session)

    def attached(
        self,
        session: str,
        attachment: int,
        *,
        ttl_ms: int,
        grace_ms: int,
        connection: Connection | None,
        now_ns: int,
    ) -> Held:
        """Own a session from now on, with a full lease."""
        held = Held(session, attachment, ttl_ms * 1_000_000, grace_ms * 1_000_000, now_ns)
        held.connection = connection
        before = self._held.get(session)
        if before is not None and before.connection not in (None, connection):
            before.connection.session_moved()
        self._held[session] = held
        self._push(held, held.heard_ns + held.ttl_ns // PINGS_PER_LEASE)
        return held

    def renewed(self, held: Held, now_ns: int) -> None:
        """It was heard from, by other means than its connection."""
        held.heard_ns = now_ns

    def ended(self, session: str) -> None:
        """It is gone, or belongs to another node now."""
        self._held.pop(session, None)

    def settle(self, attached: Iterable[Session], revision: int, now_ns: int) -> None:
        """Own exactly those that are attached here as of ``revision``; who is new has its lease."""
        own = {session.id: session for session in attached}
        for held in list(self._held.values()):
            if held.id not in own and revision >= held.attachment:
                self.moved(held.id)
        for session in own.values():
            known = self._held.get(session.id)
            if known is None or known.attachment < session.attachment:
                self.attached(
                    session.id,
                    session.attachment,
                    ttl_ms=session.ttl_ms,
                    grace_ms=session.grace_ms,
                    connection=None,
                    now_ns=now_ns,
                )

    def moved(self, session: str) -> None:
        """It belongs to another node now, or to nobody: whoever held it here is told."""
        held = self._held.pop(session, None)
        if held is not None and held.connection is not None:
            held.connection.session_moved()

    def expired(self, session: str, attachment: int) -> None:
        """The log has ended it, unless it had attached anew."""
        held = self._held.get(session)
        if held is not None and held.attachment == attachment:
            del self._held[session]
            if held.connection is not None:
                held.connection.session_expired()

    def disconnected(self, connection: Connection, session: str, now_ns: int) -> None:
        """Its connection broke: it has its grace to come back, and is suspect until then."""
        held = self._held.get(session)
        if held is None or held.connection is not connection:
            return  # it has attached elsewhere since
        held.connection = None
        held.deadline_ns = now_ns + min(held.grace_ns, held.ttl_ns)
        held.ttl_ns = 0
        if held.grace_ns == 0:
            self._expire(held, "connection lost")
            return
        self._propose(Suspect(held.id, held.attachment))
        self._push(held, held.deadline_ns)

    def reconsider(self, session: str, now_ns: int) -> None:
        """What was proposed of it did not go through: look at it again soon."""
        held = self._held.get(session)
        if held is not None:
            held.is_expiring = False
            self._push(held, now_ns + _RETRY_NS)

    def stalled(self, for_ns: int, now_ns: int) -> None:
        """This node heard nobody for a while, by its own fault: nobody's lease ran meanwhile."""
        for held in self._held.values():
            held.heard_ns = min(now_ns, _heard(held) + for_ns)
            held.deadline_ns += for_ns

    def tick(self, now_ns: int) -> None:
        """Ping who has been silent, and expire whose lease or grace is over."""
        while self._heap and self._heap[0][0] <= now_ns:
            _, _, session, attachment = heapq.heappop(self._heap)
            held = self._held.get(session)
            if held is None or held.attachment != attachment or held.is_expiring:
                continue
            if held.connection is None and held.ttl_ns == 0:
                if held.deadline_ns <= now_ns:
                    self._expire(held, "connection lost")
                else:
                    self._push(held, held.deadline_ns)
                continue
            self._look_at(held, now_ns)

    def _look_at(self, held: Held, now_ns: int) -> None:
        held.heard_ns = _heard(held)
        silent_ns = now_ns - held.heard_ns
        if silent_ns >= held.ttl_ns:
            self._expire(held, f"lease expired: nothing heard for {silent_ns / 1e9:.1f} s")
            return
        step = held.ttl_ns // PINGS_PER_LEASE
        if held.connection is not None and silent_ns >= step:
            held.connection.ping()
        self._push(held, held.heard_ns + min((silent_ns // step + 1) * step, held.ttl_ns))

    def _expire(self, held: Held, why: str) -> None:
        held.is_expiring = True
        self._propose(Expire(held.id, held.attachment, why))

    def _push(self, held: Held, at: int) -> None:
        self._pushes += 1
        heapq.heappush(self._heap, (at, self._pushes, held.id, held.attachment))
        if len(self._heap) > 4 * len(self._held) + _STALE_MAX:
            self._forget_stale()

    def _forget_stale(self) -> None:
        """Drop what is due for attachments that are no more: a lease may be a day long."""
        held = self._held
        self._heap = [
            entry
            for entry in self._heap
            if entry[2] in held and held[entry[2]].attachment == entry[3]
        ]
        heapq.heapify(self._heap)


def _heard(held: Held) -> int:
    connection = held.connection
    return held.heard_ns if connection is None else max(held.heard_ns, connection.heard_ns)
