"""Linearizable reads: one question to the log answers all that were asked before it.

Always true: whoever asks while a round is under way shares the next one, because the present one
may have looked before he asked; each is answered or refused within ``BARRIER_TIMEOUT_S``; a read
costs one future, whatever the round costs.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from waypost.errors import Unavailable, WaypostError

log = logging.getLogger("waypost.node")

BARRIER_TIMEOUT_S: Final = 5.0
BARRIER_AGAIN_S: Final = 0.02

_Waiter = tuple[float, "asyncio.Future[None]"]
"""Until when he waits, by the event loop's time, and for what."""


class Rounds:
    """The rounds of one node; tokens are negative, so that they are nobody else's."""

    def __init__(self, ask: Callable[[int], None]) -> None:
        self._ask = ask
        self._last = 0
        self._token = 0  # of the round under way; 0 for none
        self._asked: list[_Waiter] = []  # they share the round under way
        self._waiting: list[_Waiter] = []  # and they the next one
        self._pause: asyncio.TimerHandle | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._end: WaypostError | None = None
        self._loop = asyncio.get_running_loop()

    async def barrier(self) -> None:
        """Wait until everything committed before this call has been applied here."""
        if self._end is not None:
            raise self._end
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((self._loop.time() + BARRIER_TIMEOUT_S, future))
        if self._watchdog is None:
            self._watchdog = self._loop.call_later(BARRIER_TIMEOUT_S, self._look)
        self._begin()
        if future.done():  # a log of one needs nobody's word: who reads in a loop stops no others
            await asyncio.sleep(0)
        await future

    def caught_up(self, token: int) -> None:
        """The round under ``token`` is passed."""
        if token != self._token:
            return
        self._token = 0
        for _, future in self._asked:
            if not future.done():
                future.set_result(None)
        self._asked = []
        self._begin()

    def refused(self, token: int, error: WaypostError) -> None:
        """The round under ``token`` will not be passed: nobody leads, mostly, so there is another.

        What cannot be tried again is told to those who asked.
        """
        if token != self._token:
            return
        self._token = 0
        asked, self._asked = self._asked, []
        if isinstance(error, Unavailable):
            log.debug("a read is tried again: %s", error)
            self._waiting = asked + self._waiting
            self._pause = self._loop.call_later(BARRIER_AGAIN_S, self._go_on)
        else:
            _fail(asked, error)
            self._begin()

    def refuse_all(self, error: WaypostError) -> None:
        """There will be no more rounds."""
        self._end = error
        self._token = 0
        _fail(self._asked + self._waiting, error)
        self._asked, self._waiting = [], []
        for timer in (self._pause, self._watchdog):
            if timer is not None:
                timer.cancel()

    def _begin(self) -> None:
        """Begin the next round, if somebody waits for it and none is under way."""
        if self._token or self._pause is not None or not self._waiting:
            return
        self._asked, self._waiting = self._waiting, []
        self._last -= 1
        self._token = self._last
        self._ask(self._token)

    def _go_on(self) -> None:
        self._pause = None
        self._begin()

    def _look(self) -> None:
        """Refuse those who have waited too long, and look again when the next one has."""
        now = self._loop.time()
        late = Unavailable(
            f"no majority confirmed the read within {BARRIER_TIMEOUT_S:g} s: ask again, or "
            "without 'linearizable' for what this node knows"
        )
        _fail([waiter for waiter in self._asked + self._waiting if waiter[0] <= now], late)
        self._asked = [waiter for waiter in self._asked if not waiter[1].done()]
        self._waiting = [waiter for waiter in self._waiting if not waiter[1].done()]
        left = [until for until, _ in self._asked + self._waiting]
        self._watchdog = self._loop.call_later(min(left) - now, self._look) if left else None


def _fail(waiters: list[_Waiter], error: WaypostError) -> None:
    for _, future in waiters:
        if not future.done():
            future.set_exception(error)
