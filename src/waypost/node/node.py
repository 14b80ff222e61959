"""One node: what drives what.

A write comes from a door by ``offer`` and waits in the open batch; when no write is on its way to
the disk the batch is sealed and appended to the log; the engine hands it back committed; the
replica applies it and answers; what it changed is forgotten by the answer cache and published to
the watches.  All of it on one event loop; only the disk is elsewhere.

Always true: doors see the catalog only between two entries, never within one.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Final

from waypost import __version__
from waypost.catalog.snapshots import dump
from waypost.catalog.state import Catalog
from waypost.commands import Attach, Command, Detach, Expire, Outcome, Suspect, Sweep, encode_part
from waypost.errors import ReadOnly, TooStale, Unavailable, WaypostError
from waypost.model import Revision, Source
from waypost.node.admission import Admission, Kind
from waypost.node.answers import Answers
from waypost.node.engine import Engine
from waypost.node.sessions import Connection, Held, Sessions
from waypost.node.watches import Watches
from waypost.replica.cluster_time import ClusterTime
from waypost.replica.replica import Owner, Replica
from waypost.wire import NodeStatus, encode

log = logging.getLogger("waypost.node")

TICK_S: Final = 0.05
STALL_S: Final = 0.5
"""A tick that comes later than this was stalled: nobody was heard meanwhile."""
BARRIER_TIMEOUT_S: Final = 5.0
SWEEP_NS: Final = 1_000_000_000
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
        self.sessions = Sessions(self._propose)
        self.connections = 0
        self._data_dir = data_dir
        self._wall_ms = wall_ms
        self.admission = Admission()
        self._engine: Engine | None = None
        self._time: ClusterTime | None = None
        self._is_flush_due = False
        self._is_stopping = False
        self._failure: WaypostError | None = None
        self._barriers: dict[int, asyncio.Future[None]] = {}
        self._last_barrier = 0
        self._head: tuple[Revision, bytes] = (-1, b"")
        self._started_ns = clock()
        self._ticked_s = 0.0
        self._swept_ns = 0
        self._bookmarked_ns = self._started_ns
        self._timer: asyncio.TimerHandle | None = None
        self.commands_applied = 0
        self.stalls = 0
        self._loop = asyncio.get_running_loop()

    # Life

    def start(self, engine: Engine) -> None:
        """Lead from here on: own the sessions that were owned before, with a full lease each."""
        self._engine = engine
        now = self.clock()
        highest = self.catalog.now_ms or self._wall_ms()
        self._time = ClusterTime(highest, now)
        for session in self.catalog.sessions:
            if session.node == self.name:
                self.sessions.attached(
                    session.id,
                    session.attachment,
                    ttl_ms=session.ttl_ms,
                    grace_ms=session.grace_ms,
                    connection=None,
                    now_ns=now,
                )
        self._ticked_s = self._loop.time()
        self._timer = self._loop.call_later(TICK_S, self._on_timer)

    async def stop(self) -> None:
        """Take no more, finish what is on its way, and let go of the disk."""
        self._is_stopping = True
        if self._timer is not None:
            self._timer.cancel()
        if self._engine is not None:
            if self.replica.has_open_batch:
                self._flush()
            await self._engine.stop()
        self.replica.refuse_all(Unavailable("the node is stopping: ask another, or wait for it"))
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
        self.admission.admit(kind, self.replica.waiting_commands, self.replica.waiting_bytes)

    def offer(self, part: bytes, commands: list[Command], owner: Owner, ticket: int) -> None:
        """Take a write on; ``owner`` hears of it.  ``part`` decodes to ``commands``."""
        if self._failure is not None:
            owner.failed(ticket, self._failure)
            return
        self.replica.offer(part, commands, owner, ticket)
        if not self._is_flush_due and self._engine is not None and not self._engine.is_busy:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        if self.replica.has_open_batch and self._engine is not None:
            assert self._time is not None
            token, payload = self.replica.seal(self._time.stamp(self.clock()))
            self._engine.append(payload, token)

    def committed(self, index: int, payload: bytes | memoryview, token: int) -> None:
        """An entry of the log: apply it, answer who waits, and tell who watches."""
        applied = self.replica.committed(index, payload, token)
        self.commands_applied += sum(map(len, applied.outcomes))
        if applied.changed:
            self.answers.forget(applied.changed)
            self.watches.publish(index, applied.changed)

    def refused(self, token: int, error: WaypostError) -> None:
        """What was appended under ``token`` did not happen, or may not have."""
        barrier = self._barriers.pop(-token, None) if token < 0 else None
        if token < 0:
            if barrier is not None and not barrier.done():
                barrier.set_exception(error)
            return
        self.replica.refused(token, error)

    def ended(self, error: WaypostError) -> None:
        """The log failed for good: everyone who waits is told, and no more is taken on."""
        self._failure = error
        self.replica.refuse_all(error)
        barriers, self._barriers = self._barriers, {}
        for barrier in barriers.values():
            if not barrier.done():
                barrier.set_exception(error)

    def settled(self) -> None:
        """The engine can take the next batch."""
        if (
            self.replica.has_open_batch
            and not self._is_flush_due
            and self._engine is not None
            and not self._engine.is_busy
        ):
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def dump(self) -> tuple[int, Iterator[bytes]]:
        """The state now, for a snapshot."""
        return self.catalog.revision, dump(self.catalog)

    # Freshness

    @property
    def revision(self) -> Revision:
        """Of the catalog that answers come from."""
        return self.catalog.revision

    @property
    def age_ms(self) -> int:
        """How much older than the leader's state this node's may be."""
        return 0

    @property
    def source(self) -> Source:
        """Where answers come from."""
        return "leader"

    def resolved_head(self) -> bytes:
        """The first fields of an encoded ``Resolved``: what differs from answer to answer."""
        revision, head = self._head
        if revision != self.catalog.revision:
            revision = self.catalog.revision
            head = b"\x95" + encode(revision) + encode(self.age_ms) + encode(self.source)
            self._head = (revision, head)
        return head

    def check_fresh(self, max_stale_ms: int, min_revision: Revision) -> None:
        """Raise ``TooStale`` unless an answer from here meets both bounds."""
        if 0 <= max_stale_ms < self.age_ms:
            raise TooStale(
                f"this node's state may be {self.age_ms} ms old, and at most {max_stale_ms} ms was "
                "asked for: ask the leader, or allow more"
            )
        if min_revision > self.catalog.revision:
            raise TooStale(
                f"this node is at revision {self.catalog.revision}, and {min_revision} has been "
                "seen elsewhere: ask again in a moment, or another node"
            )

    async def barrier(self) -> None:
        """Wait until everything committed before this call has been applied here."""
        self._last_barrier += 1
        token = self._last_barrier
        future: asyncio.Future[None] = self._loop.create_future()
        self._barriers[token] = future
        self.engine.barrier(-token)
        try:
            async with asyncio.timeout(BARRIER_TIMEOUT_S):
                await future
        except TimeoutError:
            raise Unavailable(
                f"no majority confirmed the read within {BARRIER_TIMEOUT_S:g} s: ask again, or "
                "without 'linearizable' for what this node knows"
            ) from None
        finally:
            self._barriers.pop(token, None)

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

    def tick(self) -> None:
        """Do what is due by the clock."""
        now = self.clock()
        self.sessions.tick(now)
        if self.catalog.orphans and now - self._swept_ns >= SWEEP_NS:
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
        if not status.leader:
            return False, "no leader"
        if not status.writable:
            return False, "the disk is full or failing: reads only"
        return True, "ready"

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
