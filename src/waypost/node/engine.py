"""The log as a node sees it: bytes in, an ordered stream of ``(index, bytes)`` out.

``Engine`` is all that a node knows of how its log is kept.  ``MemberEngine`` drives a node's part
in the log (``waypost.replica.member``: alone, in a cluster, or as a learner) over a write-ahead log
and, where there are others, over ``Others``; differences between engines are data in ``status``,
never a class-name test.

Always true: entries reach the sink in index order, each once; each token gets exactly one
``committed`` or ``refused``; nothing is reported committed that is not durable (unless the engine
is in memory, and says so).  What is said to others leaves before the disk is waited for: what must
wait for it stays in the core.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import msgspec

from waypost.catalog.state import Catalog
from waypost.consensus.core import FOREVER, KIND_BATCH, Done, Entry, Snap, Write
from waypost.consensus.epoch import Epoch, Peer
from waypost.errors import CorruptData, ReadOnly, TimedOut, Unavailable, WaypostError
from waypost.node.disk_thread import DiskThread
from waypost.replica.member import Member, MemberStatus, Step
from waypost.replica.peer_messages import PeerMessage
from waypost.storage.snapshots import SnapshotStore
from waypost.storage.wal import Wal

log = logging.getLogger("waypost.engine")

SNAPSHOT_LOG_BYTES_MIN: Final = 64 << 20
"""A snapshot is due when the log since the last one has grown by this, or by that one's size."""
COMPACT_ENTRIES: Final = 1024
COMPACT_BYTES: Final = 4 << 20
"""How much an engine in memory keeps of its log: nobody will ask for it again."""
LATE_NS: Final = 5_000_000
"""A timer that comes later than this may come before messages that have been waiting."""
STATUS_KEPT_NS: Final = 1_000_000


class EngineStatus(msgspec.Struct, frozen=True, gc=False):
    """What an engine is and how it is, as data."""

    engine: str
    role: str
    leader: str
    epoch: int
    durable: bool
    writable: bool
    members: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    """Where the members' native ports are; empty for one that is alone."""
    released: bool = True
    """A majority of the members holds all that came before their epoch."""


class Sink(Protocol):
    """Who the entries are for."""

    def committed(self, index: int, payload: bytes | memoryview, token: int) -> None:
        """The entry at ``index``; ``token`` is 0 unless this engine's ``append`` proposed it."""
        ...

    def refused(self, token: int, error: WaypostError, *, is_certain: bool = False) -> None:
        """What was appended or asked for under ``token`` did not happen, or may not have.

        Certain: it is not in the log, and never will be.
        """
        ...

    def caught_up(self, token: int) -> None:
        """All that was committed before ``barrier(token)`` was asked for has been handed over."""
        ...

    def settled(self) -> None:
        """A step is over: the engine can take the next batch."""
        ...

    def changed(self) -> None:
        """Leader, role or epoch changed."""
        ...

    def ended(self, error: WaypostError) -> None:
        """The log failed for good: what was under way may or may not have happened."""
        ...

    def dump(self) -> tuple[int, Iterator[bytes]]:
        """The state now: its revision, and its bytes in slices short enough for the event loop."""
        ...

    def load(self, chunks: Iterator[bytes]) -> Catalog:
        """Build the state that a snapshot holds; on a thread of its own."""
        ...

    def restored(self, catalog: Catalog) -> None:
        """Go on from that state: the entries that follow are those after the snapshot."""
        ...


class Others(Protocol):
    """The other nodes."""

    def send(self, messages: tuple[tuple[int, PeerMessage], ...]) -> None:
        """Carry messages to them, or drop them."""
        ...

    def want(self, addresses: dict[int, str]) -> None:
        """Keep in touch with these."""
        ...

    def send_snapshot(self, nid: int, index: int) -> None:
        """Bring one of them the newest snapshot; ``snapshot_sent`` says what came of it."""
        ...

    @property
    def is_taking(self) -> bool:
        """Whether a snapshot is coming in from one of them."""
        ...


class Engine(Protocol):
    """An ordered log."""

    @property
    def status(self) -> EngineStatus:
        """How it is now."""
        ...

    @property
    def is_busy(self) -> bool:
        """A write is on its way to the disk: what comes now should pile up into the next batch."""
        ...

    @property
    def can_append(self) -> bool:
        """Whether this is the place to append: elsewhere a write is forwarded to the leader."""
        ...

    @property
    def leader_nid(self) -> int:
        """The node id of the leader; 0 if none is known, or there is no such thing."""
        ...

    @property
    def fresh_ns(self) -> int:
        """What was applied is no older than what was committed at this moment of the clock.

        ``FOREVER`` where that is always so, 0 where it was never.
        """
        ...

    @property
    def syncs(self) -> tuple[int, float]:
        """How often it was made durable, and the seconds that it took in all."""
        ...

    def append(self, payload: bytes, token: int) -> None:
        """Propose one entry."""
        ...

    def barrier(self, token: int) -> None:
        """Ask to be told when everything committed by now has been applied: a linearizable read."""
        ...

    async def stop(self) -> None:
        """Finish what is on its way to the disk and let go of it."""
        ...


class Storage:
    """Where a durable engine keeps its log and its snapshots."""

    __slots__ = ("_shut", "snapshots", "wal")

    def __init__(self, wal: Wal, snapshots: SnapshotStore, shut: Callable[[], None]) -> None:
        self.wal = wal
        self.snapshots = snapshots
        self._shut = shut

    def close(self) -> None:
        """Let go of the files, and of the lock on their directory."""
        self.wal.close()
        self._shut()


class MemberTime:
    """The time as a member was told it last: a core that it makes begins at that moment."""

    __slots__ = ("clock", "now")

    def __init__(self, clock: Callable[[], int]) -> None:
        self.clock = clock
        self.now = clock()

    def see(self) -> int:
        """What to tell the member now."""
        self.now = self.clock()
        return self.now


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
    ) -> None:
        """``applied`` is where the sink's state stands: that of the snapshot that was loaded."""
        self._member = member
        self._me = me
        self._name = name
        self._storage = storage
        self._sink = sink
        self._on_fatal = on_fatal
        self._time = time_of_member
        self._others: Others | None = None
        self._status = member.status
        self._status_ns = time_of_member.now
        self._tokens: dict[int, int] = {}
        self._changes: dict[int, asyncio.Future[None]] = {}
        self._last_change = -1
        self._applied = applied
        self._compacted = 0
        self._restoring: asyncio.Task[None] | None = None
        self._backlog: list[Step] = []
        self._writes_under_way = 0
        self._writable = True
        self._is_driving = False
        self._is_stopping = False
        self._failure: BaseException | None = None
        self._log_bytes = 0
        self._snapshot_bytes = 0
        self._snapshot_task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = FOREVER
        self._disk: DiskThread | None = None
        if storage is not None:
            self._disk = DiskThread(
                storage.wal,
                self._loop,
                on_durable=self._on_durable,
                on_failed=self._fail,
                on_space=self._on_space,
            )

    def attach(self, others: Others) -> None:
        """There are other nodes, or there may come some."""
        self._others = others

    def start(self) -> None:
        """Hand over what the log held at start, and take part from here on."""
        self._drive()

    # What it is

    @property
    def status(self) -> EngineStatus:
        """How it is now."""
        status = self._status
        epoch = status.epoch
        peers = {**epoch.sources, **epoch.members, self._me: Peer(self._name, "")}
        leader = peers.get(status.leader)
        members = sorted(epoch.members.values(), key=lambda peer: peer.name)
        return EngineStatus(
            engine=epoch.engine,
            role=status.role,
            leader=leader.name if leader else "",
            epoch=epoch.number,
            durable=self._storage is not None,
            writable=self._writable and self._failure is None,
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
        """Whether this node leads."""
        return self._status.role == "leader"

    @property
    def leader_nid(self) -> int:
        """Who leads."""
        return self._status.leader

    @property
    def fresh_ns(self) -> int:
        """How fresh this node's state is, at least."""
        now = self._time.clock()
        if self._status.fresh != FOREVER and now - self._status_ns > STATUS_KEPT_NS:
            self._status, self._status_ns = self._member.status, now
        return self._status.fresh

    @property
    def is_busy(self) -> bool:
        """Whether a write is on its way to the disk."""
        return self._writes_under_way > 0

    @property
    def is_taking_snapshot(self) -> bool:
        """Whether one is being written of this node's state, or loaded into it."""
        return self._snapshot_task is not None or self._restoring is not None

    @property
    def syncs(self) -> tuple[int, float]:
        """How often the log was made durable, and the seconds that it took in all."""
        return (self._disk.syncs, self._disk.seconds) if self._disk else (0, 0.0)

    # What is asked of it

    def append(self, payload: bytes, token: int) -> None:
        """Propose one entry."""
        if self._failure is not None:
            self._sink.refused(token, self._refusal())
            return
        self._member.append(self._time.see(), payload, token)
        self._drive()

    def barrier(self, token: int) -> None:
        """Ask for ``caught_up(token)``."""
        if self._failure is not None:
            self._sink.refused(token, self._refusal())
            return
        self._member.read(self._time.see(), token)
        self._drive()

    async def change(
        self, engine: str, members: dict[int, Peer], first_leader: int, settings: dict[str, str]
    ) -> None:
        """Begin another epoch; returns when the end of this one is committed."""
        self._last_change -= 1
        token = self._last_change
        future: asyncio.Future[None] = self._loop.create_future()
        self._changes[token] = future
        try:
            self._member.change(self._time.see(), engine, members, first_leader, settings, token)
            self._drive()
            await future
        finally:
            self._changes.pop(token, None)

    def transfer(self, to: int) -> None:
        """Hand leadership over, if this node holds it."""
        self._member.transfer(self._time.see(), to)
        self._drive()

    def found(self, epoch: Epoch) -> None:
        """A cluster begins with this epoch, or somebody who knows has told of it."""
        self._member.found(self._time.see(), epoch)
        self._drive()

    async def stop(self) -> None:
        """Finish what is on its way to the disk and let go of it."""
        self._is_stopping = True
        if self._timer is not None:
            self._timer.cancel()
        tasks = [task for task in (self._snapshot_task, self._restoring) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for future in self._changes.values():
            if not future.done():
                future.set_exception(Unavailable("the node is stopping: ask another"))
        if self._disk is not None:
            await self._disk.stop()
        if self._storage is not None:
            self._storage.close()

    # From the others

    def receive(self, src: int, messages: list[PeerMessage]) -> None:
        """Another node has said this, all at once."""
        if self._is_over:
            return
        now, member = self._time.see(), self._member
        try:
            for message in messages:
                member.receive(now, src, message)
        except CorruptData as error:
            self._fail(error)
        self._drive()

    def met(self, nid: int) -> None:
        """Another node can be spoken to."""
        if not self._is_over:
            self._member.met(self._time.see(), nid)
            self._drive()

    def peer_lost(self, nid: int) -> None:
        """Another node has hung up: it may be gone."""
        del nid

    def snapshot_sent(self, nid: int, index: int, ok: bool) -> None:
        """What came of bringing a snapshot to another node."""
        if not self._is_over:
            self._member.snapshot_sent(self._time.see(), nid, index, ok=ok)
            self._drive()

    def snapshot_staged(self, src: int, snap: Snap, epoch: Epoch) -> None:
        """A snapshot has come in from another node, and is durable."""
        if not self._is_over:
            self._member.snapshot_staged(self._time.see(), src, snap, epoch)
            self._drive()

    @property
    def _is_over(self) -> bool:
        return self._is_stopping or self._failure is not None

    # Time

    def _set_timer(self) -> None:
        deadline = self._member.deadline
        if deadline >= self._timer_ns or self._is_over:
            return  # the timer that is set comes early enough, and sets the next one
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ns = deadline
        wait_s = max(0, deadline - self._time.clock()) / 1e9
        self._timer = self._loop.call_later(wait_s, self._on_timer)

    def _on_timer(self) -> None:
        late_ns = self._time.clock() - self._timer_ns
        self._timer = None
        if late_ns > LATE_NS:
            # What has come meanwhile is read before the tick (D6), so that a node that stood still
            # does not campaign against a leader whose heartbeats wait unread; an event loop
            # reads between two of its turns.
            self._loop.call_soon(self._loop.call_soon, self._tick)
        else:
            self._tick()

    def _tick(self) -> None:
        self._timer_ns = FOREVER
        if not self._is_over:
            self._member.tick(self._time.see())
            self._drive()

    # Doing what is asked for

    def _drive(self) -> None:
        # A sink that appends from within ``committed`` must not enter the loop a second time.
        if self._is_driving:
            return
        self._is_driving = True
        try:
            while (step := self._member.ready()) is not None:
                self._perform(step)
        finally:
            self._is_driving = False
        self._sink.settled()
        self._set_timer()
        self._maybe_snapshot()

    def _perform(self, step: Step) -> None:
        others = self._others
        if step.send and others is not None:
            others.send(step.send)
        if step.write is not None:
            self._write(step.write)
        for nid, index in step.send_snapshot:
            if others is None:
                self._member.snapshot_sent(self._time.see(), nid, index, ok=False)
            else:
                others.send_snapshot(nid, index)
        if step.status is not None:
            self._status, self._status_ns = step.status, self._time.clock()
        if step.restore is not None:
            self._restoring = self._loop.create_task(self._restore(step.restore))
        if self._restoring is not None:
            self._backlog.append(step)
        else:
            self._apply(step)
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
        for entry in step.entries:
            self._apply_entry(entry)
        if step.entries:
            self._member.applied(self._time.see(), self._applied)
            self._compact_memory()
        for token, index in step.reads:
            assert index <= self._applied, "a read was confirmed above what is applied"
            self._sink.caught_up(token)
        for token in step.reads_failed:
            self._sink.refused(token, self._refusal())

    def _answer(self, done: Done) -> None:
        change = self._changes.get(done.token)
        if change is not None:
            if change.done():
                return
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
            error = self._refusal(is_in_doubt=is_in_doubt)
            self._sink.refused(done.token, error, is_certain=not is_in_doubt)

    def _apply_entry(self, entry: Entry) -> None:
        self._applied = entry.index
        self._log_bytes += len(entry.frame)
        token = self._tokens.pop(entry.index, 0)
        if entry.kind == KIND_BATCH:
            payload = entry.payload
            if payload:
                self._sink.committed(entry.index, payload, token)

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
        self._member.persisted(self._time.see(), seq)
        self._drive()

    def _on_space(self, has_space: bool) -> None:
        if has_space != self._writable:
            self._writable = has_space
            log.warning("disk space: %s", "writes again" if has_space else "full, writes refused")
            self._member.space(has_space)
            self._drive()

    def _fail(self, error: BaseException) -> None:
        """Stop for good: what the disk holds is unknown, and a retried fsync would lie."""
        if self._failure is None:
            self._failure = error
            log.critical("the write-ahead log failed; this node stops: %s", error)
            self._tokens.clear()
            self._sink.ended(self._refusal())
            self._on_fatal(error)

    def _refusal(self, *, is_in_doubt: bool = False) -> WaypostError:
        if self._failure is not None:
            return TimedOut(
                f"the node's disk failed ({self._failure}); the change may or may not survive: "
                "ask again after the restart"
            )
        if is_in_doubt:
            return TimedOut("the change may still be applied: ask for the state before retrying")
        if not self._writable:
            return ReadOnly(
                "the node's disk is full: reads go on, writes wait for space; free some on the "
                "file system of its data directory"
            )
        return Unavailable("the log takes no more right now: retry in a moment")

    # Snapshots

    def _compact_memory(self) -> None:
        if self._storage is None and (
            self._applied - self._compacted >= COMPACT_ENTRIES or self._log_bytes >= COMPACT_BYTES
        ):
            self._compacted = self._applied
            self._log_bytes = 0
            self._member.compact(self._member.snap(self._applied))

    def _maybe_snapshot(self) -> None:
        if (
            self._storage is None
            or self._log_bytes < max(SNAPSHOT_LOG_BYTES_MIN, self._snapshot_bytes)
            or self.is_taking_snapshot
            or self._is_over
            or (self._others is not None and self._others.is_taking)
            or self._member.status.durable < self._applied
        ):
            return
        self.snapshot()

    def snapshot(self) -> "asyncio.Task[None]":
        """Begin to write a snapshot of the state now; done when it is durable and the log cut."""
        if self._snapshot_task is None:
            self._log_bytes = 0
            task = self._loop.create_task(self._take_snapshot())
            task.add_done_callback(self._snapshot_done)
            self._snapshot_task = task
        return self._snapshot_task

    def _snapshot_done(self, task: "asyncio.Task[None]") -> None:
        self._snapshot_task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            # The log still holds everything: a failed snapshot costs space, not data.
            log.error("snapshot failed, the log is kept: %s", error)

    async def _take_snapshot(self) -> None:
        storage, disk = self._storage, self._disk
        assert storage is not None
        assert disk is not None
        # Entries that change nothing for the sink may stand between its revision and what is
        # applied here: its state is that of either.
        _, chunks = self._sink.dump()
        snap = self._member.snap(self._applied)
        epoch = self._member.status.epoch
        writer = await asyncio.to_thread(storage.snapshots.begin, snap, epoch)
        size = 0
        try:
            for chunk in chunks:
                size += len(chunk)
                await asyncio.to_thread(writer.add, chunk)
            await asyncio.to_thread(writer.finish)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(writer.abort))
            raise
        self._snapshot_bytes = size
        self._member.compact(snap)
        self._drive()  # hands the disk thread the mark of the snapshot, before what it allows
        await disk.run(lambda: storage.wal.drop_below(storage.snapshots.floor))

    async def _restore(self, snap: Snap) -> None:
        """Replace the state by that of a snapshot, then apply what has piled up meanwhile."""
        assert self._storage is not None
        snapshots = self._storage.snapshots
        try:
            kept = await asyncio.to_thread(snapshots.newest)
            if kept is None or kept.snap.index != snap.index:
                raise CorruptData(
                    f"the snapshot at {snap.index}, which was just verified, cannot be read: "
                    "check the disk, and start this node with an empty data directory"
                )
            catalog = await asyncio.to_thread(self._sink.load, kept.chunks)
        except Exception as error:  # noqa: BLE001 - without its state this node is nothing
            self._fail(error)
            return
        self._restoring = None
        self._applied = snap.index
        self._log_bytes = 0
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
