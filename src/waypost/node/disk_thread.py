"""The one thread that writes the log: one fsync in flight, the rest piles up.

Whatever was submitted while an fsync ran is written and synced together by the next one: group
commit by itself, with one hand-off to the event loop per commit.  Any failure ends it (D4): a
retried fsync reports success for pages that the kernel has thrown away (Rebello et al., ATC 2020).
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final, TypeVarTuple

from waypost.consensus.core import Write
from waypost.errors import ReadOnly
from waypost.storage.wal import Wal

_MARK_AFTER_SECONDS: Final = 0.05
_ASK_FOR_SPACE_SECONDS: Final = 0.5
_Job = Callable[[], None]
Ts = TypeVarTuple("Ts")


class DiskThread:
    """Owns the write-ahead log while it runs; nobody else may touch it."""

    def __init__(
        self,
        wal: Wal,
        loop: asyncio.AbstractEventLoop,
        *,
        on_durable: Callable[[int, int], None],
        on_failed: Callable[[BaseException], None],
        on_space: Callable[[bool], None],
    ) -> None:
        self._wal = wal
        self._loop = loop
        self._on_durable = on_durable
        self._on_failed = on_failed
        self._on_space = on_space
        self._queue: SimpleQueue[Write | _Job | None] = SimpleQueue()
        self._has_space = True
        self._preparing: threading.Thread | None = None
        self.syncs = 0
        self.seconds = 0.0
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="waypost-disk", daemon=True)
        self._thread.start()

    def submit(self, write: Write) -> None:
        """Queue a write; ``on_durable(seq, writes)`` follows on the loop."""
        self._queue.put(write)

    async def run(self, job: _Job) -> None:
        """Do ``job`` on this thread, in its turn."""
        done: asyncio.Future[None] = self._loop.create_future()

        def perform() -> None:
            try:
                job()
            except Exception as error:  # noqa: BLE001 - it is the caller's to hear
                self._call(done.set_exception, error)
            else:
                self._call(done.set_result, None)

        self._queue.put(perform)
        await done

    async def stop(self) -> None:
        """Write what is queued, then end."""
        self._queue.put(None)
        await self._stopped.wait()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - the node must hear of anything
            self._call(self._on_failed, error)
        finally:
            self._call(self._stopped.set)

    def _work(self) -> None:
        is_marked = True
        held_back: list[Write] = []
        while True:
            items = self._take(self._patience(is_marked))
            if not items:
                if not is_marked:
                    self._wal.mark()
                    is_marked = True
                self._prepare()
            writes = held_back + [item for item in items if isinstance(item, Write)]
            if writes and self._write(writes):
                is_marked = False
                held_back = []
            else:
                held_back = writes
            for item in items:
                if item is not None and not isinstance(item, Write):
                    item()
            if any(item is None for item in items):
                return

    def _take(self, timeout: float | None) -> list[Write | _Job | None]:
        """Everything that is queued; waits for the first, and gives nothing when time is up."""
        items: list[Write | _Job | None] = []
        with contextlib.suppress(Empty):
            items.append(self._queue.get(timeout=timeout))
            while True:
                items.append(self._queue.get_nowait())
        return items

    def _write(self, writes: list[Write]) -> bool:
        begun = time.perf_counter()
        try:
            durable = self._wal.write(writes)
        except ReadOnly:
            # Nothing was written.  They are kept for when there is space again: the core counts on
            # every write that it gave out.
            self._found_space(False)
            return False
        self.seconds += time.perf_counter() - begun
        self.syncs += 1
        self._call(self._on_durable, durable, len(writes))
        self._prepare()
        return True

    def _patience(self, is_marked: bool) -> float | None:
        if not is_marked:
            return _MARK_AFTER_SECONDS
        return None if self._has_space else _ASK_FOR_SPACE_SECONDS

    def _prepare(self) -> None:
        """Have the next segment reserved, on a thread of its own: that takes a while."""
        if self._wal.needs_segment and (self._preparing is None or not self._preparing.is_alive()):
            self._preparing = threading.Thread(
                target=self._reserve, name="waypost-segment", daemon=True
            )
            self._preparing.start()

    def _reserve(self) -> None:
        try:
            self._wal.prepare()
        except ReadOnly:
            self._found_space(False)
        except Exception as error:  # noqa: BLE001 - the node must hear of anything
            self._call(self._on_failed, error)
        else:
            self._found_space(True)

    def _found_space(self, has_space: bool) -> None:
        if has_space != self._has_space:
            self._has_space = has_space
            self._call(self._on_space, has_space)

    def _call(self, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(callback, *args)
