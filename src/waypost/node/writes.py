"""Where a write goes: into the open batch, where the log takes appends, or else to the leader.

When no write is on its way to the disk the open batch is sealed and appended; what is offered
meanwhile piles up and makes the next one.  When leadership moves, what waits moves with it, and
what was certainly not put into the log is offered again; what may have been is offered again only
if it has an origin, so that it has its effect once.

Always true: every offered write gets exactly one ``answered`` or ``failed``.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from waypost.commands import Command, Origin
from waypost.errors import TimedOut, Unavailable, WaypostError
from waypost.node.engine import Engine
from waypost.node.forwarding import Foreign, Forwarding
from waypost.replica.cluster_time import ClusterTime
from waypost.replica.replica import Owner, Proposal, Replica

OFFER_AGAIN_S: Final = 0.005


class Writes:
    """The writes of one node."""

    def __init__(
        self, replica: Replica, clock: Callable[[], int], wall_ms: Callable[[], int]
    ) -> None:
        self.forwarding = Forwarding(_to_nobody, clock)
        self.failure: WaypostError | None = None
        """Why nothing is taken on any more."""
        self.leads = False
        self.leader_nid = 0
        self._replica = replica
        self._clock = clock
        self._wall_ms = wall_ms
        self._engine: Engine | None = None
        self._time: ClusterTime | None = None
        self._is_flush_due = False
        self._loop = asyncio.get_running_loop()

    @property
    def waiting(self) -> tuple[int, int]:
        """Commands and bytes that are not answered yet."""
        replica, forwarding = self._replica, self.forwarding
        return (
            replica.waiting_commands + forwarding.waiting_commands,
            replica.waiting_bytes + forwarding.waiting_bytes,
        )

    def offer(
        self,
        part: bytes,
        commands: list[Command],
        owner: Owner,
        ticket: int,
        origin: Origin | None = None,
    ) -> None:
        """Take a write on; ``owner`` hears of it.  ``part`` decodes to ``commands``.

        With an origin it has its effect once, however often it is offered, here and elsewhere.
        """
        if self.failure is not None:
            owner.failed(ticket, self.failure)
            return
        if self.leads:
            self._replica.offer(part, commands, owner, ticket, origin)
        else:
            self.forwarding.offer(part, commands, owner, ticket, origin)
        if not self._is_flush_due:
            self.flush_soon()

    def flush_soon(self) -> None:
        """Let what waits go, at the end of this turn of the loop, if it can."""
        engine = self._engine
        if self._is_flush_due or engine is None:
            return
        if self.leads:
            is_due = self._replica.has_open_batch and not engine.is_busy
        else:
            is_due = self.forwarding.has_open
        if is_due:
            self._is_flush_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Let what waits go."""
        self._is_flush_due = False
        engine = self._engine
        if engine is None:
            return
        if not self.leads:
            self.forwarding.flush(self.leader_nid)
        elif self._replica.has_open_batch and not engine.is_busy:
            token, payload = self._replica.seal(self._stamp(self._clock()))
            engine.append(payload, token)

    def _stamp(self, now_ns: int) -> int:
        """Cluster time, which goes on from the highest stamp that was applied here."""
        applied_ms = self._replica.catalog.now_ms
        if self._time is None or applied_ms > self._time.stamp(now_ns):
            self._time = ClusterTime(applied_ms or self._wall_ms(), now_ns)
        return self._time.stamp(now_ns)

    def changed(self, engine: Engine) -> bool:
        """Move what waits to where it can be taken; returns whether this node leads anew."""
        self._engine = engine
        replica, forwarding = self._replica, self.forwarding
        before = self.leads, self.leader_nid
        led, self.leads = self.leads, engine.can_append
        leader = engine.leader_nid
        # Where all write nobody leads; whoever did is still there, and answers what he was sent.
        do_all_write = self.leads and not leader
        if led and not self.leads and replica.has_open_batch:
            forwarding.take_back(replica.take_open())
        if leader != self.leader_nid:
            self.leader_nid = leader
            if not do_all_write:
                forwarding.leader_lost(but=leader)
        if self.leads and not led:
            self._time = None
        if self.leads and forwarding.has_waiting:
            waiting = forwarding.take_open() if do_all_write else forwarding.take_all()
            for item in waiting.items():
                replica.offer(*item)
        self.flush_soon()
        return self.leads and leader != 0 and before != (True, leader)

    def settled(self) -> None:
        """The engine can take the next batch."""
        self.forwarding.applied(self._replica.catalog.revision)
        if not self._is_flush_due:
            self.flush_soon()

    def tick(self, now_ns: int) -> None:
        """Give up what has waited too long for a leader."""
        self.forwarding.tick(now_ns, 0 if self.leads else self.leader_nid)

    def refused(self, token: int, error: WaypostError, *, is_certain: bool) -> None:
        """What was appended under ``token`` did not happen, or (not certain) may have."""
        is_for_another = type(error) is (Unavailable if is_certain else TimedOut)
        if self.failure is None and is_for_another:
            self._offer_again(self._replica.take_back(token), error, is_certain=is_certain)
        else:
            self._replica.refused(token, error)

    def _offer_again(self, proposal: Proposal, error: WaypostError, *, is_certain: bool) -> None:
        """These go to whoever leads now, if they may; the others are told."""
        again = Proposal()
        for item in proposal.items():
            _, _, owner, ticket, origin = item
            if isinstance(owner, Foreign) or not (is_certain or origin is not None):
                owner.failed(ticket, error)
            else:
                again.add(item)
        if again.parts:
            self.forwarding.take_back(again)
            self._loop.call_later(OFFER_AGAIN_S, self._offer_now)

    def _offer_now(self) -> None:
        if self._engine is not None and self.failure is None:
            self.changed(self._engine)

    def refuse_all(self, error: WaypostError) -> None:
        """Fail everything that waits, and all that comes."""
        self.failure = error
        self._replica.refuse_all(error)
        self.forwarding.refuse_all(error)


def _to_nobody(nid: int, kind: int, body: bytes) -> bool:  # noqa: ARG001
    return False
