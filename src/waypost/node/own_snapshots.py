"""Snapshots of this node's own state: written beside the event loop, and loaded into it.

A snapshot is due when the log since the last one has grown by as much as that one, so what a start
reads and what is written in all stay in proportion.  In memory, the log is only cut.

Always true: the log goes only up to where a verified snapshot stands; one is written or loaded at a
time.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from waypost.catalog.state import Catalog
from waypost.consensus.core import Snap
from waypost.errors import CorruptData
from waypost.node.disk_thread import DiskThread
from waypost.node.engine import Sink
from waypost.replica.member import Member
from waypost.storage.snapshots import SnapshotStore
from waypost.storage.wal import Wal

log = logging.getLogger("waypost.engine")

SNAPSHOT_LOG_BYTES_MIN: Final = 64 << 20
"""A snapshot is due when the log since the last one has grown by this, or by that one's size."""
COMPACT_ENTRIES: Final = 1024
COMPACT_BYTES: Final = 4 << 20
"""How much an engine in memory keeps of its log: nobody will ask for it again."""


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


class OwnSnapshots:
    """The snapshots of one node's state; without storage, how its log is cut in memory."""

    def __init__(
        self,
        member: Member,
        sink: Sink,
        storage: Storage | None,
        disk: DiskThread | None,
        drive: Callable[[], None],
    ) -> None:
        self._member = member
        self._sink = sink
        self._storage = storage
        self._disk = disk
        self._drive = drive
        self._task: asyncio.Task[None] | None = None
        self._log_bytes = 0
        self._size = 0
        self._compacted = 0

    @property
    def is_writing(self) -> bool:
        """Whether one is being written."""
        return self._task is not None

    def applied(self, log_bytes: int) -> None:
        """The log has grown by so much."""
        self._log_bytes += log_bytes

    def restored(self) -> None:
        """The state is that of a snapshot."""
        self._log_bytes = 0

    def compact_memory(self, applied: int) -> None:
        """Where nothing is kept on disk, keep little of the log."""
        if self._storage is None and (
            applied - self._compacted >= COMPACT_ENTRIES or self._log_bytes >= COMPACT_BYTES
        ):
            self._compacted = applied
            self._log_bytes = 0
            self._member.compact(self._member.snap(applied))

    def is_due(self, applied: int) -> bool:
        """Whether it is time for one of the state as of ``applied``."""
        return (
            self._storage is not None
            and self._task is None
            and self._log_bytes >= max(SNAPSHOT_LOG_BYTES_MIN, self._size)
            and self._member.status.durable >= applied
        )

    def begin(self, applied: int) -> "asyncio.Task[None]":
        """Begin to write one of the state now; done when it is durable and the log cut."""
        if self._task is None:
            self._log_bytes = 0
            self._task = asyncio.get_running_loop().create_task(self._write(applied))
            self._task.add_done_callback(self._done)
        return self._task

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            # The log still holds everything: a failed snapshot costs space, not data.
            log.error("snapshot failed, the log is kept: %s", error)

    async def _write(self, applied: int) -> None:
        storage, disk = self._storage, self._disk
        assert storage is not None
        assert disk is not None
        # Entries that change nothing for the sink may stand between its revision and what is
        # applied here: its state is that of either.
        _, chunks = self._sink.dump()
        snap = self._member.snap(applied)
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
        self._size = size
        self._member.compact(snap)
        self._drive()  # hands the disk thread the mark of the snapshot, before what it allows
        await disk.run(lambda: storage.wal.drop_below(storage.snapshots.floor))

    async def load(self, snap: Snap) -> Catalog:
        """Read the state that a snapshot holds, which was verified just now."""
        assert self._storage is not None
        kept = await asyncio.to_thread(self._storage.snapshots.newest)
        if kept is None or kept.snap.index != snap.index:
            raise CorruptData(
                f"the snapshot at {snap.index}, which was just verified, cannot be read: "
                "check the disk, and start this node with an empty data directory"
            )
        return await asyncio.to_thread(self._sink.load, kept.chunks)

    async def close(self) -> None:
        """Give up what is being written."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
