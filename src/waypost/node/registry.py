"""The verbs: what every door calls, and the only way to the registry's data.

Writes go through the log and come back as outcomes; reads answer from this node's catalog and say
how fresh they are.  Native connections offer their writes as bytes and hear by position; the doors
that speak of one thing at a time use the coroutines here.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Final

import msgspec

from waypost.catalog.directory import Directory
from waypost.checks import Check
from waypost.commands import (
    Attach,
    Command,
    Deregister,
    Detach,
    Register,
    RegisterChecked,
    SetHealth,
    encode_part,
)
from waypost.consensus.core import KIND_BATCH, NO_BALLOT, Snap
from waypost.errors import (
    Rejected,
    TimedOut,
    Unavailable,
    UnknownInstance,
    UnknownService,
    UnknownSession,
)
from waypost.model import Health, Instance, Record, Revision, Source, check_instance
from waypost.node.check_verbs import CheckVerbs
from waypost.node.feed import Feed, FeedItem
from waypost.node.key_verbs import KeyVerbs
from waypost.node.metrics import Metric, metrics_of
from waypost.node.node import Node
from waypost.node.refusal import raised
from waypost.node.verify import Dialer
from waypost.node.waiter import Waiter
from waypost.node.watches import Reader
from waypost.storage.snapshots import as_file
from waypost.wire import (
    ClusterAsk,
    ClusterState,
    Consistency,
    Drained,
    Holding,
    NodeStatus,
    Outcomes,
    Resolve,
    Resolved,
    Services,
    Verified,
)

WRITE_TIMEOUT_S: Final = 5.0
REACH_STEP_S: Final = 0.01
REACH_STEPS: Final = 20


class Registered(msgspec.Struct, frozen=True, gc=False):
    """What a registration yields."""

    revision: Revision
    incarnation: int


class Registry:
    """The verbs of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._dialer = Dialer()
        self._counting: list[Callable[[], list[Metric]]] = [lambda: metrics_of(node)]
        checks = CheckVerbs(node, self.write)
        self.put_check = checks.put_check
        self.drop_check = checks.drop_check
        self.report_check = checks.report_check
        self.put_node, self.drop_node = checks.put_node, checks.drop_node
        self.checks, self.node_checks = checks.checks, checks.node_checks
        self.nodes, self.node, self.on_node = checks.nodes, checks.node, checks.on_node
        self.checks_revision = checks.checks_revision
        self.nodes_revision = checks.nodes_revision
        self.on_checks = checks.on_checks
        self.keys = KeyVerbs(node, self.write)

    # Writes

    async def register(
        self,
        instance: Instance,
        *,
        ttl_ms: int,
        health: Health = "passing",
        why: str = "",
        checks: tuple[Check, ...] | None = None,
    ) -> Registered:
        """Register without a connection: a lease of its own keeps it, renewed by ``renew``.

        ``ttl_ms`` of 0 makes it permanent: only a deregistration removes it.  ``checks`` are all
        that it shall have of its own; None leaves those that it has.
        """
        session = _lease_of(instance.service, instance.id) if ttl_ms else ""
        plain = Register(instance, session, health, why)
        commands: list[Command] = [plain if checks is None else RegisterChecked(plain, checks)]
        held = self._node.owned(session)
        if held is not None and held.ttl_ns == ttl_ms * 1_000_000:
            self._node.sessions.renewed(held, self._node.clock())
        elif session:
            commands.insert(0, Attach(session, self._node.name, ttl_ms, ttl_ms))
        done = await self.write(commands)
        if len(commands) == 2:  # the lease is there even if the registration was refused
            self._node.own_session(session, raised(done.outcomes[0]), ttl_ms, ttl_ms, None)
        try:
            return Registered(done.revision, raised(done.outcomes[-1]))
        except UnknownSession:  # another node ended it, and this one had not heard
            self._node.sessions.ended(session)
            return await self.register(
                instance, ttl_ms=ttl_ms, health=health, why=why, checks=checks
            )

    async def renew(self, service: str, instance_id: str) -> Revision:
        """Keep alive what ``register`` registered with a lease."""
        try:
            record = self.record(service, instance_id)
        except (UnknownService, UnknownInstance):
            await self._node.barrier()  # it may have been registered elsewhere a moment ago
            record = self.record(service, instance_id)
        if record.session == "":
            return self._node.revision  # permanent: nothing runs out
        if record.session != _lease_of(service, instance_id):
            raise Rejected(
                f"{service}/{instance_id} is kept alive by the connection of its provider, not by "
                "renewals: register it over HTTP to renew it over HTTP"
            )
        held = self._node.owned(record.session)
        if held is not None:
            self._node.sessions.renewed(held, self._node.clock())
        else:
            await self._renew_elsewhere(record.session)
        return self._node.revision

    async def _renew_elsewhere(self, lease: str) -> None:
        """Tell the node that owns a lease; if that one is lost, own it here."""
        node = self._node
        session = node.catalog.session(lease)
        if session is None:
            raise UnknownSession("session: its lease is over: register the instance again")
        if session.node != node.name and node.others is not None:
            with contextlib.suppress(Unavailable):
                await node.others.call_owner(session.node, lease)
                return
        done = await self.write([Attach(lease, node.name, session.ttl_ms, session.grace_ms)])
        attachment = raised(done.outcomes[0])
        node.own_session(lease, attachment, session.ttl_ms, session.grace_ms, None)

    async def deregister(self, service: str, instance_id: str, incarnation: int = 0) -> Revision:
        """Remove an instance."""
        commands: list[Command] = [Deregister(service, instance_id, incarnation)]
        lease = _lease_of(service, instance_id)
        if self._node.catalog.session(lease) is not None:
            commands.append(Detach(lease))
        done = await self.write(commands)
        raised(done.outcomes[0])
        self._node.sessions.ended(lease)
        return done.revision

    async def set_health(
        self, service: str, instance_id: str, health: Health, why: str = "", incarnation: int = 0
    ) -> Revision:
        """Say how an instance is."""
        done = await self.write([SetHealth(service, instance_id, health, why, incarnation)])
        raised(done.outcomes[0])
        return done.revision

    async def merge_meta(self, service: str, instance_id: str, pairs: dict[str, str]) -> Revision:
        """Add pairs to an instance's meta, or change those that it has; all else stays."""
        await self._node.barrier()
        record = self.record(service, instance_id)
        held = record.instance
        instance = msgspec.structs.replace(held, meta={**held.meta, **pairs})
        check_instance(instance)
        health, why = self.catalog.declared(record)
        done = await self.write([Register(instance, record.session, health, why)])
        raised(done.outcomes[0])
        return done.revision

    async def drain(self, service: str, instance_id: str, deadline_ms: int) -> Drained:
        """Take an instance out of new picks, and wait until every watcher has seen it go."""
        await self.set_health(service, instance_id, "draining", "drain asked for")
        # Its latest change: who drains already is not changed, and nobody is told of it again.
        revision = self.record(service, instance_id).revision
        here, others = self._node.watches.all_seen, self._node.others
        if others is None:
            watchers, unseen = await here(service, revision, deadline_ms / 1000)
            return Drained(revision, watchers, unseen)
        (watchers, unseen), (watchers_there, unseen_there) = await asyncio.gather(
            here(service, revision, deadline_ms / 1000),
            others.all_seen(service, revision, deadline_ms),
        )
        return Drained(revision, watchers + watchers_there, unseen + unseen_there)

    async def write(self, commands: list[Command]) -> Outcomes:
        """Commit commands together, in one log entry; a refused one does not undo the others."""
        is_leaving = all(isinstance(c, Deregister | Detach) for c in commands)
        self._node.admit("deregister" if is_leaving else "register")
        waiter = Waiter()
        self._node.offer(encode_part(commands), commands, waiter, 0)
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                return await waiter.future
        except TimeoutError:
            raise TimedOut(
                f"not committed within {WRITE_TIMEOUT_S:g} s, and it may still be: ask for the "
                "state before sending it again"
            ) from None

    # Reads

    async def resolve(self, request: Resolve) -> Resolved:
        """The instances of a service, as fresh as asked for."""
        await self.make_fresh(request)
        known, records = self._node.answers.select(request.service, request.query)
        node = self._node
        return Resolved(node.revision, node.age_ms, node.source, known, records)

    async def make_fresh(self, request: Resolve) -> None:
        """Wait until an answer from this node is as fresh as ``request`` asks, or raise."""
        if request.consistency == "linearizable":
            await self._node.barrier()
        if request.min_revision > self._node.revision:
            await self._reach(request.min_revision)
        self._node.check_fresh(request.max_stale_ms, request.min_revision)

    async def _reach(self, revision: Revision) -> None:
        """Give this node a moment to be told what its client was told by another one."""
        for _ in range(REACH_STEPS):
            await asyncio.sleep(REACH_STEP_S)
            if self._node.revision >= revision:
                return

    def resolved_body(self, service: str) -> bytes:
        """An encoded ``Resolved`` for a plain query: the hot path of the native door."""
        return self._node.resolved_head() + self._node.answers.native(service)

    def resolved_json(self, service: str) -> bytes | None:
        """The pickable instances as a JSON array, or None if unknown: the hot path of HTTP."""
        return self._node.answers.json(service)

    def record(self, service: str, instance_id: str) -> Record:
        """One instance, or ``UnknownService`` or ``UnknownInstance``."""
        instances = self._node.catalog.service(service)
        if instances is None:
            raise UnknownService(f"no instance of {service!r} is registered: check the name")
        record = instances.get(instance_id)
        if record is None:
            raise UnknownInstance(
                f"{service!r} has no instance {instance_id!r}: it may have expired; register it "
                "again"
            )
        return record

    def holdings(self, session_id: str) -> list[Holding]:
        """What a session keeps alive."""
        session = self._node.catalog.session(session_id)
        if session is None:
            return []
        held = [record.instance for record in self._node.catalog.held(session)]
        return [Holding(one.service, one.id, one.incarnation) for one in held]

    async def backup(self, consistency: Consistency) -> tuple[Revision, Iterator[bytes]]:
        """The state of this moment, as the bytes of a snapshot's file."""
        if consistency == "linearizable":
            await self._node.barrier()
        revision, chunks = self._node.dump()
        snap = Snap(revision, NO_BALLOT, KIND_BATCH, 0)
        return revision, as_file(snap, None, chunks, cluster=int(self._node.cluster, 16), node=0)

    async def cluster(self, ask: ClusterAsk) -> ClusterState:
        """Tell who the members are, or change that."""
        others = self._node.others
        if others is None:
            raise Rejected(
                "this node keeps everything in memory, and nobody can join it: start it with "
                "--data-dir"
            )
        return await others.ask(ask)

    def services(self) -> Services:
        """Every service, in numbers."""
        node = self._node
        node.admit("list")
        summaries = [node.answers.summary(name) for name in node.catalog.service_names()]
        return Services(node.revision, node.age_ms, node.source, summaries)

    async def list_from(self, min_revision: Revision) -> Services:
        """Every service, in numbers, of that revision at least, or ``TooStale``."""
        await self._reach(min_revision)
        self._node.check_fresh(-1, min_revision)
        return self.services()

    async def watch(self, service: str, since: Revision = 0) -> AsyncGenerator[FeedItem, None]:
        """Follow a service (or with ``""`` all): a snapshot or what was missed, then each change.

        A reader that is slow to take the next item is given the latest state, not a backlog.
        """
        self._node.admit("watch")
        if since > self._node.revision and self._node.native_addresses:
            await self._reach(since)
            self._node.check_fresh(-1, since)
        feed = Feed(self._node.watches, service, since)
        try:
            while True:
                yield await feed.take()
        finally:
            feed.close()

    # The node itself

    async def verify(self, service: str, instance_id: str, seen_as: str = "") -> Verified:
        """Connect to an instance's advertised address, and say what went wrong."""
        instance = self.record(service, instance_id).instance
        return await self._dialer.dial(instance.host, instance.port, seen_as)

    @property
    def name(self) -> str:
        """What this node is called."""
        return self._node.name

    @property
    def leader(self) -> str:
        """Who leads, as far as is known here; empty if nobody does."""
        return self._node.leader

    @property
    def catalog(self) -> Directory:
        """All that this node knows: to read, until the event loop turns."""
        return self._node.catalog

    def servers(self) -> list[tuple[str, str]]:
        """The nodes of this registry and their native addresses, by name; none for one alone."""
        status = self._node.engine.status
        if len(status.members) != len(status.addresses):
            return []
        return sorted(zip(status.members, status.addresses, strict=True))

    def listen(self, service: str, reader: Reader) -> Callable[[], None]:
        """Tell ``reader`` of changes, without a snapshot, until what is returned is called."""
        watches = self._node.watches
        watcher = watches.begin(service, reader, self._node.revision, confirms=False)
        return functools.partial(watches.end, watcher)

    def status(self) -> NodeStatus:
        """How this node is."""
        return self._node.status()

    def is_ready(self) -> tuple[bool, str]:
        """Whether it takes writes, and if not, why."""
        return self._node.is_ready()

    @property
    def revision(self) -> Revision:
        """Of the state that answers come from."""
        return self._node.revision

    @property
    def scripts_on(self) -> str:
        """This node's name, if it runs scripts for programs on its machine; else nothing."""
        return self._node.name if self._node.runs_scripts else ""

    @property
    def age_ms(self) -> int:
        """How old that state may be."""
        return self._node.age_ms

    @property
    def source(self) -> Source:
        """``leader`` or ``follower``."""
        return self._node.source

    def metrics(self) -> list[Metric]:
        """What the node counts."""
        return [metric for count in self._counting for metric in count()]

    def count_also(self, metrics: Callable[[], list[Metric]]) -> None:
        """Tell what a door counts among the node's metrics."""
        self._counting.append(metrics)


def _lease_of(service: str, instance_id: str) -> str:
    return f"lease:{service}/{instance_id}"
