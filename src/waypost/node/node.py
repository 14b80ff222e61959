"""One node: what drives what.

A write comes from a door by ``offer``.  Where the log takes appends it waits in the open batch;
when no write is on its way to the disk the batch is sealed and appended; elsewhere it is forwarded
to the leader.  The engine hands entries over as they are committed; the replica applies them and
answers; what they changed is forgotten by the answer cache and published to the watches.  All of it
on one event loop; only the disk is elsewhere.

Always true: doors see the catalog only between two entries, never within one.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Final

from waypost import __version__
from waypost.catalog.sessions import Session
from waypost.catalog.snapshots import dump, load
from waypost.catalog.state import Catalog
from waypost.commands import (
    Attach,
    Command,
    Detach,
    encode_part,
)
from waypost.consensus.core import FOREVER
from waypost.errors import ReadOnly, TooStale, Unavailable, WaypostError
from waypost.model import Revision, Source
from waypost.node.admission import Admission, Kind
from waypost.node.answers import Answers
from waypost.node.checkup import CheckNews
from waypost.node.engine import Engine
from waypost.node.key_waits import KeyWaits
from waypost.node.liveness import Liveness
from waypost.node.others import OtherNodes
from waypost.node.rounds import Rounds
from waypost.node.sessions import Connection, Held
from waypost.node.watches import Watches
from waypost.node.writes import Writes
from waypost.replica.replica import Owner, Replica
from waypost.wire import NodeStatus, encode

log = logging.getLogger("waypost.node")


TICK_S: Final = 0.05
STALL_S: Final = 0.5
"""A tick that comes later than this was stalled: nobody was heard meanwhile."""
KEYS_BYTES_MAX: Final = 256 << 20
AGE_UNKNOWN_MS: Final = 2**53 - 1
BOOKMARK_NS: Final = 10_000_000_000


class Node:
    """A replica, the engine under it, and everything that lives on its event loop."""

    def __init__(
        self,
        name: str,
        cluster: str,
        catalog: Catalog,
        *,
        data_dir: str = "",
        clock: Callable[[], int] = time.monotonic_ns,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.name = name
        self.cluster = cluster
        self.clock = clock
        self.catalog = catalog
        self.replica = Replica(catalog)
        self.answers = Answers(catalog)
        self.watches = Watches(catalog)
        self.key_waits = KeyWaits()
        self.keys_bytes_max = KEYS_BYTES_MAX
        self.runs_scripts = False
        """Whether programs on this machine may have it run their checks."""
        self.writes = Writes(self.replica, clock, wall_ms)
        self.offer = self.writes.offer
        """Take a write on; see ``Writes.offer``."""
        self._rounds = Rounds(self._ask_round)
        self.barrier = self._rounds.barrier
        """Wait until everything committed before the call has been applied here."""
        self.on_move: Callable[[], None] = lambda: None
        """Tells the clients of this node to move to another one."""
        self.check_news = CheckNews()
        self.others: OtherNodes | None = None
        """The other nodes; None for one that nobody can join."""
        self._liveness = Liveness(self)
        self.sessions = self._liveness.sessions
        self.connections = 0
        self.native_addresses: tuple[str, ...] = ()
        """Of all members of the cluster, where clients reach them; empty for a cluster of one."""
        self._data_dir = data_dir
        self.admission = Admission()
        self._engine: Engine | None = None
        self._is_stopping = False
        self._failure: WaypostError | None = None
        self._head: tuple[Revision, int, bytes] = (-1, 0, b"")
        self._started_ns = clock()
        self._ticked_s = 0.0
        self._bookmarked_ns = self._started_ns
        self._timer: asyncio.TimerHandle | None = None
        self.commands_applied = 0
        self.stalls = 0
        self._loop = asyncio.get_running_loop()

    # Life

    def start(self, engine: Engine) -> None:
        """Live: own the sessions that were owned before, with a full lease each."""
        self._engine = engine
        self.changed()
        self._liveness.settle(self.clock())
        self._ticked_s = self._loop.time()
        self._timer = self._loop.call_later(TICK_S, self._on_timer)

    def changed(self) -> None:
        """Another leads, or this node does now: what waits goes where it can be taken."""
        engine = self._engine
        if engine is None:
            return
        self.native_addresses = engine.status.addresses
        is_new_leader = self.writes.changed(engine)
        if self.writes.leads or self.writes.leader_nid:
            self._liveness.led(self.clock(), is_new_leader=is_new_leader)

    async def hand_over(self) -> None:
        """Before a planned stop: let another one lead, so that nobody waits for an election."""
        if self.others is not None:
            with contextlib.suppress(WaypostError):
                await self.others.hand_over()

    async def stop(self) -> None:
        """Take no more, finish what is on its way, and let go of the disk."""
        self._is_stopping = True
        if self._timer is not None:
            self._timer.cancel()
        if self._engine is not None:
            self.writes.flush()
            if self.others is not None:
                await self.others.close()
            await self._engine.stop()
        going = Unavailable("the node is stopping: ask another, or wait for it")
        self.writes.refuse_all(going)
        self._rounds.refuse_all(going)

    # The path of a write

    def admit(self, kind: Kind) -> None:
        """Raise unless a request of this kind may be taken on now."""
        if self._is_stopping:
            raise Unavailable("the node is stopping: ask another, or wait for its restart")
        if self._failure is not None:
            raise ReadOnly(
                "this node has stopped, as its log says why, and takes no more writes: restart it, "
                "and what it had acknowledged will be there"
            )
        self.admission.admit(kind, *self.writes.waiting)

    def committed(self, index: int, payload: bytes | memoryview, token: int) -> None:
        """An entry of the log: apply it, answer who waits, and tell who watches."""
        applied = self.replica.committed(index, payload, token)
        self.commands_applied += sum(map(len, applied.outcomes))
        if applied.changed:
            self.answers.forget(applied.changed)
            self.watches.publish(index, applied.changed)
        self.check_news.applied(index, applied, self.catalog)
        if applied.touched is not None:
            self.key_waits.publish(applied.touched)

    def refused(self, token: int, error: WaypostError, *, is_certain: bool = False) -> None:
        """What was appended or asked for under ``token`` did not happen, or may have."""
        if token < 0:
            self._rounds.refused(token, error)
        else:
            self.writes.refused(token, error, is_certain=is_certain)

    def caught_up(self, token: int) -> None:
        """The round of reads under ``token`` is passed."""
        self._rounds.caught_up(token)

    def _ask_round(self, token: int) -> None:
        self.engine.barrier(token)

    def ended(self, error: WaypostError) -> None:
        """The log failed for good: everyone who waits is told, and no more is taken on."""
        self._failure = error
        self.writes.refuse_all(error)
        self._rounds.refuse_all(error)

    def settled(self) -> None:
        """The engine can take the next batch."""
        self.writes.settled()

    def dump(self) -> tuple[int, Iterator[bytes]]:
        """The state now, for a snapshot."""
        return self.catalog.revision, dump(self.catalog)

    def load(self, chunks: Iterator[bytes]) -> Catalog:
        """Build the state that a snapshot holds; may run on a thread of its own."""
        return load(chunks)

    def restored(self, catalog: Catalog) -> None:
        """Go on from a snapshot that another node has sent: everyone who watches is resynced."""
        self.catalog = catalog
        self.replica.catalog = catalog
        self.answers.replace(catalog)
        self.watches.replace(catalog)
        self.check_news.restored(catalog)
        self.key_waits.wake_all()
        self._liveness.settle(self.clock())
        self.settled()

    # Freshness

    @property
    def revision(self) -> Revision:
        """Of the catalog that answers come from."""
        return self.catalog.revision

    @property
    def age_ms(self) -> int:
        """How much older than the leader's state this node's may be: a bound that holds."""
        fresh_ns = FOREVER if self._engine is None else self._engine.fresh_ns
        if fresh_ns == FOREVER:
            return 0
        if fresh_ns == 0:
            return AGE_UNKNOWN_MS
        return max(0, self.clock() - fresh_ns) // 1_000_000

    @property
    def source(self) -> Source:
        """Where answers come from."""
        return "leader" if self.writes.leads else "follower"

    def resolved_head(self) -> bytes:
        """The first fields of an encoded ``Resolved``: what differs from answer to answer."""
        revision, age_ms, head = self._head
        now_ms = self.age_ms
        if revision != self.catalog.revision or age_ms != now_ms:
            revision = self.catalog.revision
            head = b"\x95" + encode(revision) + encode(now_ms) + encode(self.source)
            self._head = (revision, now_ms, head)
        return head

    def check_fresh(self, max_stale_ms: int, min_revision: Revision) -> None:
        """Raise ``TooStale`` unless an answer from here meets both bounds."""
        if 0 <= max_stale_ms < self.age_ms:
            raise TooStale(
                f"this node's state may be {_shown_age(self.age_ms)} old, and at most "
                f"{max_stale_ms} ms was asked for: ask the leader, or allow more"
            )
        if min_revision > self.catalog.revision:
            raise TooStale(
                f"this node is at revision {self.catalog.revision}, and {min_revision} has been "
                "seen elsewhere: ask again in a moment, or another node"
            )

    # Liveness

    def attach(self, session: str, ttl_ms: int, grace_ms: int, owner: Owner, ticket: int) -> None:
        """Open a session here, or move it here; then call ``own_session`` with its attachment."""
        self._offer_command(Attach(session, self.name, ttl_ms, grace_ms), owner, ticket)

    def detach(self, session: str, owner: Owner, ticket: int) -> None:
        """End a session cleanly."""
        self._offer_command(Detach(session), owner, ticket)

    def own_session(
        self,
        session: str,
        attachment: int,
        ttl_ms: int,
        grace_ms: int,
        connection: Connection | None,
    ) -> Held:
        """The session attached here: watch over it."""
        return self.sessions.attached(
            session,
            attachment,
            ttl_ms=ttl_ms,
            grace_ms=grace_ms,
            connection=connection,
            now_ns=self.clock(),
        )

    def owned(self, session: str) -> Held | None:
        """A session that this node owns, and that no other has taken over or ended since."""
        held, known = self.sessions.find(session), self.catalog.session(session)
        if held is None or known is None or known.attachment != held.attachment:
            return None
        return None if held.is_expiring else held

    def sessions_of(self, name: str) -> list[Session]:
        """The sessions that a node owns."""
        return list(self.catalog.sessions_of(name))

    def tick(self) -> None:
        """Do what is due by the clock."""
        now = self.clock()
        self._liveness.tick(now)
        self.writes.tick(now)
        if now - self._bookmarked_ns >= BOOKMARK_NS:
            self._bookmarked_ns = now
            self.watches.bookmark()

    def tick_no_more(self) -> None:
        """Leave it to whoever moves ``clock`` to call ``tick``: a test."""
        if self._timer is not None:
            self._timer.cancel()

    def _on_timer(self) -> None:
        # By the event loop's own time: whether it stood still is nothing that ``clock`` can tell.
        now_s = self._loop.time()
        late_s = now_s - self._ticked_s - TICK_S
        if late_s > STALL_S:
            self.stalls += 1
            log.warning("stalled for %.1f s; every lease is extended by that", late_s)
            self._liveness.stalled(int(late_s * 1e9), self.clock())
        self._ticked_s = now_s
        self.tick()
        if not self._is_stopping:
            self._timer = self._loop.call_later(TICK_S, self._on_timer)

    def _offer_command(self, command: Command, owner: Owner, ticket: int) -> None:
        self.offer(encode_part([command]), [command], owner, ticket)

    # For people and programs that look

    def is_ready(self) -> tuple[bool, str]:
        """Whether it takes writes, and if not, why."""
        if self._engine is None:
            return False, "starting"
        if self._is_stopping:
            return False, "stopping"
        status = self._engine.status
        if not status.leader and status.role != "member":  # where all write, nobody leads
            return False, "no leader"
        if not status.writable:
            return False, "the disk is full or failing: reads only"
        return True, "ready"

    @property
    def leader(self) -> str:
        """The name of the node that leads, as far as is known here; empty if none does.

        Where all write, and nobody leads, it is this one.
        """
        status = self.engine.status
        return self.name if status.role == "member" else status.leader

    def status(self) -> NodeStatus:
        """How this node is."""
        engine = self.engine.status
        return NodeStatus(
            node=self.name,
            version=__version__,
            cluster=self.cluster,
            engine=engine.engine,
            role=engine.role,
            leader=engine.leader,
            epoch=engine.epoch,
            revision=self.catalog.revision,
            durable=engine.durable,
            writable=engine.writable,
            uptime_s=round((self.clock() - self._started_ns) / 1e9, 3),
            services=len(self.catalog.service_names()),
            instances=self.catalog.instance_count,
            sessions=len(self.sessions),
            connections=self.connections,
            watchers=len(self.watches),
            members=list(engine.members),
            data_dir=self._data_dir,
            released=engine.released,
            age_ms=self.age_ms,
        )

    @property
    def engine(self) -> Engine:
        """The log under this node; raises ``ReadOnly`` until it is there."""
        if self._engine is None:
            raise ReadOnly("the node is starting: try again in a moment")
        return self._engine


def _shown_age(age_ms: int) -> str:
    return (
        "of any age: it has not heard from a leader yet, and may be"
        if (age_ms == AGE_UNKNOWN_MS)
        else f"{age_ms} ms"
    )
