"""The log as a node sees it: bytes in, an ordered stream of ``(index, bytes)`` out.

``Engine`` is all that a node knows of how its log is kept.  ``CoreEngine`` drives a consensus core
(alone or in a cluster) over a write-ahead log; differences between engines are data in ``status``,
never a class-name test.

Always true: entries reach the sink in index order, each once; each token gets exactly one
``committed`` or ``refused``; nothing is reported committed that is not durable (unless the engine
is in memory, and says so).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import msgspec

from waypost.consensus.core import KIND_BATCH, Core, Write
from waypost.errors import ReadOnly, TimedOut, Unavailable, WaypostError
from waypost.node.disk_thread import DiskThread
from waypost.storage.snapshots import SnapshotStore
from waypost.storage.wal import Wal

log = logging.getLogger("waypost.engine")

SNAPSHOT_LOG_BYTES_MIN: Final = 64 << 20
"""A snapshot is due when the log since the last one has grown by this, or by that one's size."""
COMPACT_ENTRIES: Final = 1024
COMPACT_BYTES: Final = 4 << 20
"""How much an engine in memory keeps of its log: nobody will ask for it again."""


class EngineStatus(msgspec.Struct, frozen=True, gc=False):
    """What an engine is and how it is, as data."""

    engine: str
    role: str
    leader: str
    epoch: int
    durable: bool
    writable: bool
    members: tuple[str, ...]


class Sink(Protocol):
    """Who the entries are for."""

    def committed(self, index: int, payload: bytes | memoryview, token: int) -> None:
        """The entry at ``index``; ``token`` is 0 unless this engine's ``append`` proposed it."""
        ...

    def refused(self, token: int, error: WaypostError) -> None:
        """What was appended or asked for under ``token`` did not happen, or may not have."""
        ...

    def caught_up(self, token: int) -> None:
        """All that was committed before ``barrier(token)`` was asked for has been handed over."""
        ...

    def settled(self) -> None:
        """A step is over: the engine can take the next batch."""
        ...

    def ended(self, error: WaypostError) -> None:
        """The log failed for good: what was under way may or may not have happened."""
        ...

    def dump(self) -> tuple[int, Iterator[bytes]]:
        """The state now: its revision, and its bytes in slices short enough for the event loop."""
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


class CoreEngine:
    """Drives a consensus core: performs what each ``Ready`` asks for, in its order.

    Without storage every write counts as durable at once, and the status says that it is not.
    """

    def __init__(
        self,
        name: str,
        core: Core,
        *,
        node: str,
        storage: Storage | None,
        sink: Sink,
        on_fatal: Callable[[BaseException], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._name = name
        self._core = core
        self._node = node
        self._storage = storage
        self._sink = sink
        self._on_fatal = on_fatal
        self._clock = clock
        self._tokens: dict[int, int] = {}
        self._applied = 0
        self._compacted = 0
        self._writes_under_way = 0
        self._writable = True
        self._is_driving = False
        self._failure: BaseException | None = None
        self._log_bytes = 0
        self._snapshot_bytes = 0
        self._snapshot_task: asyncio.Task[None] | None = None
        self._disk: DiskThread | None = None
        if storage is not None:
            self._disk = DiskThread(
                storage.wal,
                asyncio.get_running_loop(),
                on_durable=self._on_durable,
                on_failed=self._fail,
                on_space=self._on_space,
            )

    def replay(self, applied: int) -> None:
        """Hand over what the log held at start, above ``applied`` (where the snapshot ends)."""
        self._applied = applied
        self._core.applied(self._clock(), applied)
        self._drive()

    @property
    def status(self) -> EngineStatus:
        """How it is now."""
        status = self._core.status
        is_leader = status.role == "leader"
        return EngineStatus(
            engine=self._name,
            role=status.role,
            leader=self._node if is_leader else "",
            epoch=status.ballot.epoch,
            durable=self._storage is not None,
            writable=self._writable and self._failure is None,
            members=(self._node,),
        )

    @property
    def is_busy(self) -> bool:
        """Whether a write is on its way to the disk."""
        return self._writes_under_way > 0

    @property
    def syncs(self) -> tuple[int, float]:
        """How often the log was made durable, and the seconds that it took in all."""
        return (self._disk.syncs, self._disk.seconds) if self._disk else (0, 0.0)

    def append(self, payload: bytes, token: int) -> None:
        """Propose one entry."""
        if self._failure is not None:
            self._sink.refused(token, self._refusal())
            return
        self._log_bytes += len(payload)
        self._core.propose(self._clock(), payload, token)
        self._drive()

    def barrier(self, token: int) -> None:
        """Ask for ``caught_up(token)``."""
        if self._failure is not None:
            self._sink.refused(token, self._refusal())
            return
        self._core.read(self._clock(), token)
        self._drive()

    async def stop(self) -> None:
        """Finish what is on its way to the disk and let go of it."""
        if self._snapshot_task is not None:
            self._snapshot_task.cancel()
            await asyncio.gather(self._snapshot_task, return_exceptions=True)
        if self._disk is not None:
            await self._disk.stop()
        if self._storage is not None:
            self._storage.close()

    def _drive(self) -> None:
        # A sink that appends from within ``committed`` must not enter the loop a second time.
        if self._is_driving:
            return
        self._is_driving = True
        try:
            while (ready := self._core.ready()) is not None:
                if ready.write is not None:
                    self._write(ready.write)
                for done in ready.done:
                    if done.what == "committed":
                        self._tokens[done.index] = done.token
                    else:
                        self._sink.refused(done.token, self._refusal(lost=done.what != "refused"))
                self._apply_to(ready.commit)
                for token, index in ready.reads:
                    assert index <= self._applied, "a read was confirmed above what is applied"
                    self._sink.caught_up(token)
                for token in ready.reads_failed:
                    self._sink.refused(token, self._refusal())
        finally:
            self._is_driving = False
        self._sink.settled()
        self._maybe_snapshot()

    def _write(self, write: Write) -> None:
        if self._disk is None:
            self._core.persisted(self._clock(), write.seq)
        else:
            self._writes_under_way += 1
            self._disk.submit(write)

    def _on_durable(self, seq: int, writes: int) -> None:
        if self._failure is not None:
            return  # everyone has been told that they do not know
        self._writes_under_way -= writes
        self._core.persisted(self._clock(), seq)
        self._drive()

    def _apply_to(self, commit: int) -> None:
        if commit <= self._applied:
            return
        for entry in self._core.entries(self._applied + 1, commit):
            self._applied = entry.index
            token = self._tokens.pop(entry.index, 0)
            if entry.kind == KIND_BATCH:
                self._sink.committed(entry.index, entry.payload, token)
            elif token:
                self._sink.refused(token, self._refusal())
        self._core.applied(self._clock(), self._applied)
        if self._storage is None and (
            self._applied - self._compacted >= COMPACT_ENTRIES or self._log_bytes >= COMPACT_BYTES
        ):
            self._compacted = self._applied
            self._log_bytes = 0
            self._core.compact(self._core.snap(self._applied))

    def _on_space(self, has_space: bool) -> None:
        if has_space != self._writable:
            self._writable = has_space
            log.warning("disk space: %s", "writes again" if has_space else "full, writes refused")
            self._core.space(has_space)

    def _fail(self, error: BaseException) -> None:
        """Stop for good: what the disk holds is unknown, and a retried fsync would lie."""
        if self._failure is None:
            self._failure = error
            log.critical("the write-ahead log failed; this node stops: %s", error)
            self._tokens.clear()
            self._sink.ended(self._refusal())
            self._on_fatal(error)

    def _refusal(self, *, lost: bool = False) -> WaypostError:
        if self._failure is not None:
            return TimedOut(
                f"the node's disk failed ({self._failure}); the change may or may not survive: "
                "ask again after the restart"
            )
        if lost:
            return TimedOut("the change may still be applied: ask for the state before retrying")
        if not self._writable:
            return ReadOnly(
                "the node's disk is full: reads go on, writes wait for space; free some on the "
                "file system of its data directory"
            )
        return Unavailable("the log takes no more right now: retry in a moment")

    def _maybe_snapshot(self) -> None:
        if (
            self._storage is None
            or self._snapshot_task is not None
            or self._log_bytes < max(SNAPSHOT_LOG_BYTES_MIN, self._snapshot_bytes)
        ):
            return
        self.snapshot()

    def snapshot(self) -> "asyncio.Task[None]":
        """Begin to write a snapshot of the state now; done when it is durable and the log cut."""
        if self._snapshot_task is None:
            self._log_bytes = 0
            task = asyncio.get_running_loop().create_task(self._take_snapshot())
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
        index, chunks = self._sink.dump()
        snap = self._core.snap(index)
        writer = await asyncio.to_thread(storage.snapshots.begin, snap)
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
        self._core.compact(snap)
        self._drive()  # hands the disk thread the mark of the snapshot, before what it allows
        await disk.run(lambda: storage.wal.drop_below(storage.snapshots.floor))
