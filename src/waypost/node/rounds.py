"""Linearizable reads: one question to the log answers all that were asked before it.

Always true: whoever asks while a round is under way shares the next one, because the present one
may have looked before he asked; each ends within ``BARRIER_TIMEOUT_S``.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from waypost.errors import Unavailable, WaypostError

log = logging.getLogger("waypost.node")

BARRIER_TIMEOUT_S: Final = 5.0
BARRIER_AGAIN_S: Final = 0.02


class Rounds:
    """The rounds of one node; tokens are negative, so that they are nobody else's."""

    def __init__(self, ask: Callable[[int], None]) -> None:
        self._ask = ask
        self._asked: dict[int, asyncio.Future[None]] = {}
        self._last = 0
        self._current: asyncio.Future[None] | None = None
        self._next: asyncio.Future[None] | None = None
        self._end: WaypostError | None = None

    async def barrier(self) -> None:
        """Wait until everything committed before this call has been applied here."""
        try:
            async with asyncio.timeout(BARRIER_TIMEOUT_S):
                while True:
                    try:
                        await self._round()
                    except Unavailable as error:
                        if self._end is not None:
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
        if self._end is not None:
            raise self._end
        if self._current is None:
            await asyncio.shield(self._begin())
            return
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._next)

    def _begin(self) -> "asyncio.Future[None]":
        future, self._next = self._next, None
        future = future or asyncio.get_running_loop().create_future()
        self._current = future
        future.add_done_callback(self._ended)
        self._last -= 1
        self._asked[self._last] = future
        self._ask(self._last)
        return future

    def _ended(self, future: "asyncio.Future[None]") -> None:
        if not future.cancelled():
            future.exception()  # whoever asked may have gone
        self._current = None
        if self._next is not None and self._end is None:
            self._begin()

    def caught_up(self, token: int) -> None:
        """The round under ``token`` is passed."""
        future = self._asked.pop(token, None)
        if future is not None and not future.done():
            future.set_result(None)

    def refused(self, token: int, error: WaypostError) -> None:
        """The round under ``token`` will not be passed."""
        future = self._asked.pop(token, None)
        if future is not None and not future.done():
            future.set_exception(error)

    def refuse_all(self, error: WaypostError) -> None:
        """There will be no more rounds."""
        self._end = error
        waiting = [*self._asked.values()]
        if self._next is not None:
            waiting.append(self._next)
        self._asked.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                future.exception()  # nobody may be waiting any more
