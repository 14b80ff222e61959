"""Drives a node's part in the log: alone, in a cluster, or as a learner.

Performs what ``waypost.replica.member`` asks for, over a write-ahead log and, where there are other
nodes, over ``Others``.  What is said to others leaves before the disk is waited for: what must wait
for it stays in the core.

Always true: what steps ask for is done in their order; while a snapshot of another node is loaded,
what is to be applied waits, in order, and nothing else does.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec

from waypost.consensus.core import FOREVER, KIND_BATCH, Done, Entry, Snap, Write
from waypost.consensus.epoch import Epoch, Peer
from waypost.errors import CorruptData, Unavailable, WaypostError
from waypost.node.disk_thread import DiskThread
from waypost.node.engine import EngineStatus, Sink
from waypost.node.member_time import Alarm, MemberTime
from waypost.node.others import Others
from waypost.node.outside import Outside
from waypost.node.own_snapshots import OwnSnapshots, Storage
from waypost.node.refusal import refusal, unapplied
from waypost.node.teller import tell_of
from waypost.replica.member import Member, MemberStatus, Step
from waypost.replica.peer_messages import PeerMessage

P = ParamSpec("P")
log = logging.getLogger("waypost.engine")

STATUS_KEPT_NS: Final = 1_000_000
MEMBER: Final = "member"
"""The role of every node, where all write and nobody leads."""


class MemberEngine:
    """Drives one node's part in the log: performs what each ``Step`` asks for, in its order.

    Without storage every write counts as durable at once, and the status says that it is not.
    """

    def __init__(
        self,
        member: Member,
        *,
        me: int,
        name: str,
        applied: int,
        storage: Storage | None,
        sink: Sink,
        on_fatal: Callable[[BaseException], None],
        time_of_member: "MemberTime",
        outside: Outside | None = None,
    ) -> None:
        """``applied`` is where the sink's state stands: that of the snapshot that was loaded."""
        self._member = member
        self._me = me
        self._name = name
        self._storage = storage
        self._sink = sink
        self._on_fatal = on_fatal
        self._time = time_of_member
        self._outside = outside
        self._others: Others | None = None
        self._status = member.status
        self._status_ns = time_of_member.now
        self._tokens: dict[int, int] = {}
        self._changes: dict[int, asyncio.Future[None]] = {}
        self._last_change = -1
        self._applied = applied
        self._restoring: asyncio.Task[None] | None = None
        self._backlog: list[Step] = []
        self._writes_under_way = 0
        self._writable = True
        self._is_driving = False
        self._is_stopping = False
        self._failure: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(time_of_member.clock, self._tick)
        self._disk: DiskThread | None = None
        if storage is not None:
            self._disk = DiskThread(
                storage.wal,
                self._loop,
                on_durable=self._on_durable,
                on_failed=self.fail,
                on_space=self._on_space,
            )
        self._snapshots = OwnSnapshots(member, sink, storage, self._disk, self._drive)

    def attach(self, others: Others) -> None:
        """There are other nodes, or there may come some."""
        self._others = others

    def start(self) -> None:
        """Hand over what the log held at start, and take part from here on."""
        self._drive()
        if self._outside is not None:
            self._outside.attach(self)

    # What it is

    @property
    def _abroad(self) -> Outside | None:
        """Who speaks with the log of this epoch, if that is kept outside."""
        return self._outside if self._outside is not None and self._outside.is_on else None

    @property
    def status(self) -> EngineStatus:
        """How it is now."""
        status, abroad = self._status, self._abroad
        epoch = status.epoch
        peers = {**epoch.sources, **epoch.members, self._me: Peer(self._name, "")}
        leader = peers.get(status.leader) if abroad is None else None
        members = sorted(epoch.members.values(), key=lambda peer: peer.name)
        is_writable = self._writable and (abroad is None or abroad.is_writable)
        return EngineStatus(
            engine=epoch.engine,
            role=status.role if abroad is None else MEMBER,
            leader=leader.name if leader else "",
            epoch=epoch.number,
            durable=self._storage is not None,
            writable=is_writable and self._failure is None,
            members=tuple(peer.name for peer in members),
            addresses=tuple(peer.address for peer in members if peer.address),
            released=status.released,
        )

    @property
    def member_status(self) -> MemberStatus:
        """Where this node stands now."""
        return self._member.status

    @property
    def can_append(self) -> bool:
        """Whether this node leads, or all of them write."""
        return self._status.role == "leader"

    @property
    def leader_nid(self) -> int:
        """Who leads; 0 where all write."""
        return self._status.leader if self._abroad is None else 0

    @property
    def fresh_ns(self) -> int:
        """How fresh this node's state is, at least."""
        if self._abroad is not None:
            return self._abroad.fresh_ns
        now = self._time.clock()
        if self._status.fresh != FOREVER and now - self._status_ns > STATUS_KEPT_NS:
            self._status, self._status_ns = self._member.status, now
        return self._status.fresh

    @property
    def is_busy(self) -> bool:
        """Whether a write is on its way to the disk, or to where the log is kept."""
        return self._writes_under_way > 0 if self._abroad is None else self._abroad.is_busy

    @property
    def applied(self) -> int:
        """Index of the last entry that the state has."""
        return self._applied

    @property
    def is_taking_snapshot(self) -> bool:
        """Whether one is being written of this node's state, or loaded into it."""
        return self._snapshots.is_writing or self._restoring is not None

    @property
    def syncs(self) -> tuple[int, float]:
        """How often the log was made durable, and the seconds that it took in all."""
        return (self._disk.syncs, self._disk.seconds) if self._disk else (0, 0.0)

    # What is asked of it

    def append(self, payload: bytes, token: int) -> None:
        """Propose one entry."""
        if self._is_whole_for(token):
            self._tell(self._member.append, payload, token)

    def barrier(self, token: int) -> None:
        """Ask for ``caught_up(token)``."""
        if self._is_whole_for(token):
            self._tell(self._member.read, token)

    def _is_whole_for(self, token: int) -> bool:
        if self._failure is not None:
            self._sink.refused(token, self._refusal())
        return self._failure is None

    async def change(
        self, engine: str, members: dict[int, Peer], first_leader: int, settings: dict[str, str]
    ) -> None:
        """Begin another epoch; returns when the end of this one is committed."""
        self._last_change -= 1
        token = self._last_change
        future: asyncio.Future[None] = self._loop.create_future()
        self._changes[token] = future
        try:
            self._tell(self._member.change, engine, members, first_leader, settings, token)
            await future
        finally:
            self._changes.pop(token, None)

    def transfer(self, to: int) -> None:
        """Hand leadership over, if this node holds it."""
        self._tell(self._member.transfer, to)

    def found(self, epoch: Epoch) -> None:
        """A cluster begins with this epoch, or somebody who knows has told of it."""
        self._tell(self._member.found, epoch)

    async def stop(self) -> None:
        """Finish what is on its way to the disk and let go of it."""
        if self._outside is not None:
            await self._outside.stop()
        self._is_stopping = True
        self._alarm.stop()
        await self._snapshots.close()
        if self._restoring is not None:
            self._restoring.cancel()
            await asyncio.gather(self._restoring, return_exceptions=True)
        for future in self._changes.values():
            if not future.done():
                future.set_exception(Unavailable("the node is stopping: ask another"))
        if self._disk is not None:
            await self._disk.stop()
        if self._storage is not None:
            self._storage.close()

    # From a log that is kept outside

    def now(self) -> int:
        """The time, as the core is to be told it."""
        return self._time.see()

    def told(self) -> None:
        """The core has heard something from there."""
        if not self._is_stopping:
            self._tell(self._member.told)

    # From the others

    def receive(self, src: int, messages: list[PeerMessage]) -> None:
        """Another node has said this, all at once."""
        if not self._is_stopping:
            self._tell(self._heard, src, messages)

    def _heard(self, now: int, src: int, messages: list[PeerMessage]) -> None:
        receive = self._member.receive
        for message in messages:
            receive(now, src, message)

    def met(self, nid: int) -> None:
        """Another node can be spoken to."""
        if not self._is_stopping:
            self._tell(self._member.met, nid)

    def gone(self, nid: int) -> None:
        """Nothing listens any more where another node was."""
        if not self._is_stopping:
            self._tell(self._member.gone, nid)

    def snapshot_sent(self, nid: int, index: int, ok: bool) -> None:
        """What came of bringing a snapshot to another node."""
        if not self._is_stopping:
            self._tell(self._member.snapshot_sent, nid, index, ok=ok)

    def snapshot_staged(self, src: int, snap: Snap, epoch: Epoch) -> None:
        """A snapshot has come in from another node, and is durable."""
        if not self._is_stopping:
            self._tell(self._member.snapshot_staged, src, snap, epoch)

    def _tick(self) -> None:
        if not self._is_stopping:
            self._tell(self._member.tick)

    # Doing what is asked for

    def _tell(
        self, verb: "Callable[Concatenate[int, P], None]", *args: P.args, **options: P.kwargs
    ) -> None:
        """Tell the core something, and do what it asks for; a core that broke is asked no more."""
        try:
            verb(self._time.see(), *args, **options)
            self._drive()
        except CorruptData as error:
            self.fail(error)
        except WaypostError:
            raise  # this was refused, and nothing else is wrong
        except Exception as error:
            self.fail(error)
            raise

    def _drive(self) -> None:
        # A sink that appends from within ``committed`` must not enter the loop a second time.
        if self._is_driving:
            return
        self._is_driving = True
        try:
            while True:
                while self._failure is None and (step := self._member.ready()) is not None:
                    self._perform(step)
                if self._outside is None or not self._outside.pump():
                    break
        finally:
            self._is_driving = False
        self._sink.settled()
        self._alarm.set(self._member.deadline)
        self._maybe_snapshot()

    def _perform(self, step: Step) -> None:
        others, answers_first = self._others, step.answers_first
        if step.send and others is not None and not answers_first:
            others.send(step.send)
        if step.write is not None:
            self._write(step.write)
        for nid, index in step.send_snapshot:
            if others is None:
                self._member.snapshot_sent(self._time.see(), nid, index, ok=False)
            else:
                others.send_snapshot(nid, index)
        if step.status is not None:
            if self._outside is not None:
                self._outside.moved(step.status)
            tell_of(self._status, step.status, all_write=self._abroad is not None)
            self._status, self._status_ns = step.status, self._time.clock()
        if step.restore is not None:
            self._restoring = self._loop.create_task(self._restore(step.restore))
        if self._restoring is not None:
            self._backlog.append(step)
        else:
            self._apply(step)
        if step.send and others is not None and answers_first:
            others.send(step.send)
        if step.status is not None:
            if others is not None:
                peers = step.status.peers
                others.want({nid: peer.address for nid, peer in peers.items()})
            self._sink.changed()
        if step.retired:
            log.warning("this node is no member any more, and nobody needs it: it may be stopped")

    def _apply(self, step: Step) -> None:
        for done in step.done:
            self._answer(done)
        try:
            for entry in step.entries:
                self._apply_entry(entry)
        except Exception as error:  # noqa: BLE001 - without an entry its state is not the others'
            self.fail(unapplied(self._applied, error))
            return
        if step.entries:
            self._member.applied(self._time.see(), self._applied)
            self._snapshots.compact_memory(self._applied)
        for token, index in step.reads:
            assert index <= self._applied, "a read was confirmed above what is applied"
            self._sink.caught_up(token)
        for token in step.reads_failed:
            self._sink.refused(token, self._refusal())

    def _answer(self, done: Done) -> None:
        change = self._changes.get(done.token)
        if change is not None and not change.done():
            if done.what == "committed":
                change.set_result(None)
            else:
                change.set_exception(self._refusal(is_in_doubt=done.what == "unknown"))
        elif done.token < 0:
            pass  # of a change that nobody waits for any more
        elif done.what == "committed":
            assert done.index > self._applied, "a batch of ours was applied as somebody else's"
            self._tokens[done.index] = done.token
        else:
            is_in_doubt = done.what == "unknown"
            error = self._abroad.why(done.token) if self._abroad is not None else None
            error = error or self._refusal(is_in_doubt=is_in_doubt)
            self._sink.refused(done.token, error, is_certain=not is_in_doubt)

    def _apply_entry(self, entry: Entry) -> None:
        token = self._tokens.pop(entry.index, 0)
        if entry.kind == KIND_BATCH and (payload := entry.payload):
            self._sink.committed(entry.index, payload, token)
        self._applied = entry.index
        self._snapshots.applied(len(entry.frame))

    def _write(self, write: Write) -> None:
        if self._disk is None:
            self._member.persisted(self._time.see(), write.seq)
        else:
            self._writes_under_way += 1
            self._disk.submit(write)

    def _on_durable(self, seq: int, writes: int) -> None:
        if self._failure is not None:
            return  # everyone has been told that they do not know
        self._writes_under_way -= writes
        self._tell(self._member.persisted, seq)

    def _on_space(self, has_space: bool) -> None:
        if has_space != self._writable:
            self._writable = has_space
            log.warning("disk space: %s", "writes again" if has_space else "full, writes refused")
            self._member.space(has_space)
            self._drive()

    def fail(self, error: BaseException) -> None:
        """Stop for good: a retried fsync would lie, and a state without an entry is another."""
        if self._failure is None:
            self._failure, self._is_stopping = error, True
            log.critical("this node stops: %s", error)
            self._tokens.clear()
            self._sink.ended(self._refusal())
            self._on_fatal(error)

    def _refusal(self, *, is_in_doubt: bool = False) -> WaypostError:
        return refusal(self._failure, is_writable=self._writable, is_in_doubt=is_in_doubt)

    # Snapshots

    def _maybe_snapshot(self) -> None:
        others = self._others
        is_hindered = (
            self._restoring
            or self._is_stopping
            or (others and others.is_taking)
            or (self._abroad and self._abroad.is_restoring)
        )
        if not is_hindered and self._snapshots.is_due(self._applied):
            self.snapshot()

    def snapshot(self) -> "asyncio.Task[None]":
        """Begin to write a snapshot of the state now; done when it is durable and the log cut."""
        return self._snapshots.begin(self._applied)

    async def _restore(self, snap: Snap) -> None:
        """Replace the state by that of a snapshot, then apply what has piled up meanwhile."""
        try:
            catalog = await self._snapshots.load(snap)
        except Exception as error:  # noqa: BLE001 - without its state this node is nothing
            self.fail(error)
            return
        self._restoring = None
        self._applied = snap.index
        self._snapshots.restored()
        self._sink.restored(catalog)
        self._member.applied(self._time.see(), snap.index)
        backlog, self._backlog = self._backlog, []
        for number, step in enumerate(backlog):
            if step.restore is not None and step.restore.index > snap.index:
                self._backlog = backlog[number:]
                self._restoring = self._loop.create_task(self._restore(step.restore))
                return
            self._apply(step)
        self._drive()
