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
from typing import Final, Protocol

from waypost import __version__
from waypost.catalog.sessions import Session
from waypost.catalog.snapshots import dump, load
from waypost.catalog.state import Catalog
from waypost.commands import (
    Attach,
    Command,
    Detach,
    Expire,
    Origin,
    Outcome,
    Suspect,
    Sweep,
    encode_part,
)
from waypost.consensus.core import FOREVER
from waypost.errors import ReadOnly, TooStale, Unavailable, WaypostError
from waypost.model import Revision, Source
from waypost.node.absences import Absences, Owners
from waypost.node.admission import Admission, Kind
from waypost.node.answers import Answers
from waypost.node.engine import Engine
from waypost.node.forwarding import Foreign, Forwarding
from waypost.node.sessions import Connection, Held, Sessions
from waypost.node.watches import Watches
from waypost.replica.cluster_time import ClusterTime
from waypost.replica.replica import Owner, Proposal, Replica
from waypost.wire import ClusterAsk, ClusterState, NodeStatus, encode

log = logging.getLogger("waypost.node")

TICK_S: Final = 0.05
STALL_S: Final = 0.5
"""A tick that comes later than this was stalled: nobody was heard meanwhile."""
BARRIER_TIMEOUT_S: Final = 5.0
BARRIER_AGAIN_S: Final = 0.02
SWEEP_NS: Final = 1_000_000_000
SETTLE_NS: Final = 1_000_000_000
"""How often it is checked that exactly the sessions are watched over that are this node's."""
LEADERLESS_NS: Final = 2_000_000_000
"""A node that is cut off for longer tells its clients to move."""
OFFER_AGAIN_S: Final = 0.005
AGE_UNKNOWN_MS: Final = 2**53 - 1
BOOKMARK_NS: Final = 10_000_000_000


class OtherNodes(Protocol):
    """The other nodes of the cluster, and those who want to belong to it."""

    def accept(self, transport: asyncio.Transport, body: bytes) -> None:
        """Take over a connection that began with ``PEER_HELLO``."""
        ...

    def genesis(self, body: bytes) -> bytes:
        """Answer a machine that has no cluster."""
        ...

    async def ask(self, ask: ClusterAsk) -> ClusterState:
        """Answer what a client asks about the members, or do it."""
        ...

    async def call_owner(self, name: str, session: str) -> None:
        """Have the node that owns a session hear that it is alive."""
        ...

    async def hand_over(self) -> None:
        """If this node leads, let another one lead."""
        ...

    async def close(self) -> None:
        """Leave them alone."""
        ...


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
        self.sessions = Sessions(self._propose)
        self.forwarding = Forwarding(_to_nobody, clock)
        self.heard_ns: Callable[[str], int] = lambda _: 0
        """When a node was last heard, by its name."""
        self.is_cut_off: Callable[[], bool] = lambda: False
        """Whether other nodes can be expected to do better than this one, which knows no leader."""
        self.on_move: Callable[[], None] = lambda: None
        """Tells the clients of this node to move to another one."""
        self.others: OtherNodes | None = None
        """The other nodes; None for one that nobody can join."""
        owners = Owners(self._owner_names, self.sessions_of, self._last_heard)
        self._absences = Absences(name, owners, self._propose)
        self.connections = 0
        self.native_addresses: tuple[str, ...] = ()
        """Of all members of the cluster, where clients reach them; empty for a cluster of one."""
        self._data_dir = data_dir
        self._wall_ms = wall_ms
        self.admission = Admission()
        self._engine: Engine | None = None
        self._time: ClusterTime | None = None
        self._is_flush_due = False
        self._leads = False
        self._leader_nid = 0
        self._led_ns = clock()
        self._is_stopping = False
        self._failure: WaypostError | None = None
        self._barriers: dict[int, asyncio.Future[None]] = {}
        self._last_barrier = 0
        self._reading: asyncio.Future[None] | None = None
        self._reading_next: asyncio.Future[None] | None = None
        self._head: tuple[Revision, int, bytes] = (-1, 0, b"")
        self._started_ns = clock()
        self._ticked_s = 0.0
        self._swept_ns = 0
        self._settled_ns = 0
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
        self._settle_sessions(self.clock())
        self._ticked_s = self._loop.time()
        self._timer = self._loop.call_later(TICK_S, self._on_timer)

    def changed(self) -> None:
        """Another leads, or this node does now: what waits goes where it can be taken."""
        engine = self._engine
        if engine is None:
            return
        now = self.clock()
        led, self._leads = self._leads, engine.can_append
        leader = engine.leader_nid
        self.native_addresses = engine.status.addresses
        if self._leads and not led:
            self._absences.begin(now)
            self._time = None
        if led and not self._leads and self.replica.has_open_batch:
            self.forwarding.take_back(self.replica.take_open())
        if leader != self._leader_nid:
            self._leader_nid = leader
            self.forwarding.leader_lost(but=leader)
        if leader or self._leads:
            self._led_ns = now
        if self._leads and self.forwarding.has_waiting:
            waiting = self.forwarding.take_all()
            for item in waiting.items():
                self.replica.offer(*item)
        self._flush_soon()

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
            if self.replica.has_open_batch:
                self._flush()
            if self.others is not None:
                await self.others.close()
            await self._engine.stop()
        going = Unavailable("the node is stopping: ask another, or wait for it")
        self.replica.refuse_all(going)
        self.forwarding.refuse_all(going)
        for future in self._barriers.values():
            if not future.done():
                future.set_exception(Unavailable("the node is stopping: ask another"))

    # The path of a write

    def admit(self, kind: Kind) -> None:
        """Raise unless a request of this kind may be taken on now."""
        if self._is_stopping:
            raise Unavailable("the node is stopping: ask another, or wait for its restart")
        if self._failure is not None:
            raise ReadOnly(
                "the node's disk failed, and it takes no more writes: restart it, and what it had "
                "acknowledged will be there"
            )
        replica, forwarding = self.replica, self.forwarding
        commands = replica.waiting_commands + forwarding.waiting_commands
        self.admission.admit(kind, commands, replica.waiting_bytes + forwarding.waiting_bytes)

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
        if self._failure is not None:
            owner.failed(ticket, self._failure)
            return
        if self._leads:
            self.replica.offer(part, commands, owner, ticket, origin)
        else:
            self.forwarding.offer(part, commands, owner, ticket, origin)
        if not self._is_flush_due:
            self._flush_soon()

    def _flush_soon(self) -> None:
        engine = self._engine
        if self._is_flush_due or engine is None:
            return
        if self._leads:
            is_due = self.replica.has_open_batch and not engine.is_busy
        else:
            is_due = self.forwarding.has_open
        if is_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        engine = self._engine
        if engine is None:
            return
        if not self._leads:
            self.forwarding.flush(self._leader_nid)
        elif self.replica.has_open_batch and not engine.is_busy:
            token, payload = self.replica.seal(self._stamp(self.clock()))
            engine.append(payload, token)

    def _stamp(self, now_ns: int) -> int:
        """Cluster time, which goes on from the highest stamp that was applied here."""
        applied_ms = self.catalog.now_ms
        if self._time is None or applied_ms > self._time.stamp(now_ns):
            self._time = ClusterTime(applied_ms or self._wall_ms(), now_ns)
        return self._time.stamp(now_ns)

    def committed(self, index: int, payload: bytes | memoryview, token: int) -> None:
        """An entry of the log: apply it, answer who waits, and tell who watches."""
        applied = self.replica.committed(index, payload, token)
        self.commands_applied += sum(map(len, applied.outcomes))
        if applied.changed:
            self.answers.forget(applied.changed)
            self.watches.publish(index, applied.changed)

    def refused(self, token: int, error: WaypostError, *, is_certain: bool = False) -> None:
        """What was appended under ``token`` did not happen, or (not certain) may have."""
        if token < 0:
            barrier = self._barriers.pop(-token, None)
            if barrier is not None and not barrier.done():
                barrier.set_exception(error)
        elif is_certain and isinstance(error, Unavailable) and type(error) is Unavailable:
            self._offer_again(self.replica.take_back(token))
        else:
            self.replica.refused(token, error)

    def _offer_again(self, proposal: Proposal) -> None:
        """Nobody has made these changes: they go to whoever leads now."""
        own = Proposal()
        for item in proposal.items():
            if isinstance(item[2], Foreign):
                item[2].failed(item[3], Unavailable("this node leads no more"))
            else:
                own.add(item)
        if own.parts:
            self.forwarding.take_back(own)
            self._loop.call_later(OFFER_AGAIN_S, self.changed)

    def ended(self, error: WaypostError) -> None:
        """The log failed for good: everyone who waits is told, and no more is taken on."""
        self._failure = error
        self.replica.refuse_all(error)
        self.forwarding.refuse_all(error)
        barriers, self._barriers = self._barriers, {}
        for barrier in barriers.values():
            if not barrier.done():
                barrier.set_exception(error)

    def settled(self) -> None:
        """The engine can take the next batch."""
        self.forwarding.applied(self.catalog.revision)
        if not self._is_flush_due:
            self._flush_soon()

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
        self._settle_sessions(self.clock())
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
        return "leader" if self._leads else "follower"

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

    async def barrier(self) -> None:
        """Wait until everything committed before this call has been applied here.

        Whoever asks while one round is under way shares the next one.
        """
        try:
            async with asyncio.timeout(BARRIER_TIMEOUT_S):
                while True:
                    try:
                        await self._round()
                    except Unavailable as error:
                        if self._is_stopping or self._failure is not None:
                            raise
                        log.debug("a read is tried again: %s", error)
                    else:
                        return
                    await asyncio.sleep(BARRIER_AGAIN_S)
        except TimeoutError:
            raise Unavailable(
                f"no majority confirmed the read within {BARRIER_TIMEOUT_S:g} s: ask again, or "
                "without 'linearizable' for what this node knows"
            ) from None

    async def _round(self) -> None:
        current = self._reading
        if current is None:
            await asyncio.shield(self._begin_round())
            return
        if self._reading_next is None:
            self._reading_next = self._loop.create_future()
        await asyncio.shield(self._reading_next)

    def _begin_round(self) -> "asyncio.Future[None]":
        future, self._reading_next = self._reading_next, None
        self._reading = future = future or self._loop.create_future()
        future.add_done_callback(self._round_ended)
        self._last_barrier += 1
        self._barriers[self._last_barrier] = future
        self.engine.barrier(-self._last_barrier)
        return future

    def _round_ended(self, future: "asyncio.Future[None]") -> None:
        if not future.cancelled():
            future.exception()  # whoever asked may have gone
        self._reading = None
        if self._reading_next is not None:
            self._begin_round()

    def caught_up(self, token: int) -> None:
        """The barrier under ``token`` is passed."""
        future = self._barriers.pop(-token, None)
        if future is not None and not future.done():
            future.set_result(None)

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

    def sessions_of(self, name: str) -> list[Session]:
        """The sessions that a node owns."""
        return list(self.catalog.sessions_of(name))

    def _owner_names(self) -> list[str]:
        return self.catalog.sessions.nodes

    def _last_heard(self, name: str) -> int:
        return self.heard_ns(name)

    def _settle_sessions(self, now_ns: int) -> None:
        """Watch over exactly the sessions that are attached here, each with a full lease if new."""
        self._settled_ns = now_ns
        own = {session.id: session for session in self.sessions_of(self.name)}
        for held in list(self.sessions):
            session = own.get(held.id)
            if session is None and self.catalog.revision >= held.attachment:
                self.sessions.moved(held.id)
        for session in own.values():
            held_here = self.sessions.find(session.id)
            if held_here is None or held_here.attachment < session.attachment:
                self.own_session(
                    session.id, session.attachment, session.ttl_ms, session.grace_ms, None
                )

    def tick(self) -> None:
        """Do what is due by the clock."""
        now = self.clock()
        self.sessions.tick(now)
        self.forwarding.tick(now, 0 if self._leads else self._leader_nid)
        if now - self._settled_ns >= SETTLE_NS:
            self._settled_ns = now
            if self.catalog.sessions.count_of(self.name) != len(self.sessions):
                self._settle_sessions(now)
        if self._leads and self._leader_nid:
            self._absences.tick(now)
        elif self._leader_nid == 0 and now - self._led_ns >= LEADERLESS_NS and self.is_cut_off():
            self._led_ns = now
            log.warning("no leader can be reached from here: the clients are told to move")
            self.on_move()
        if self._leads and self.catalog.orphans and now - self._swept_ns >= SWEEP_NS:
            self._swept_ns = now
            self._propose(Sweep())
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
            self.sessions.stalled(int(late_s * 1e9), self.clock())
            self._absences.stalled(int(late_s * 1e9))
        self._ticked_s = now_s
        self.tick()
        if not self._is_stopping:
            self._timer = self._loop.call_later(TICK_S, self._on_timer)

    def _propose(self, command: Command) -> None:
        self._offer_command(command, _OfItsOwn(self, command), 0)

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


class _OfItsOwn:
    """The owner of a command that the node proposed itself."""

    __slots__ = ("_command", "_node")

    def __init__(self, node: Node, command: Command) -> None:
        self._node = node
        self._command = command

    def answered(self, ticket: int, revision: int, outcomes: list[Outcome]) -> None:  # noqa: ARG002
        if isinstance(self._command, Expire):
            self._node.sessions.expired(self._command.session, self._command.attachment)

    def failed(self, ticket: int, error: WaypostError) -> None:  # noqa: ARG002
        if isinstance(self._command, Expire | Suspect):
            self._node.sessions.reconsider(self._command.session, self._node.clock())
        with contextlib.suppress(Exception):
            log.warning("%s was not committed: %s", type(self._command).__name__, error)


def _to_nobody(nid: int, kind: int, body: bytes) -> bool:  # noqa: ARG001
    return False


def _shown_age(age_ms: int) -> str:
    return (
        "of any age: it has not heard from a leader yet, and may be"
        if (age_ms == AGE_UNKNOWN_MS)
        else f"{age_ms} ms"
    )
