"""Time for a member: what it was told last, and when it is to be told again."""

import asyncio
from collections.abc import Callable
from typing import Final

from waypost.consensus.core import FOREVER

LATE_NS: Final = 5_000_000
"""An alarm that comes later than this may come before messages that have been waiting."""


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


class Alarm:
    """Calls ``tick`` no later than the deadline that it was set to last, unless it is stopped."""

    __slots__ = ("_at_ns", "_clock", "_is_stopped", "_loop", "_tick", "_timer")

    def __init__(self, clock: Callable[[], int], tick: Callable[[], None]) -> None:
        self._clock = clock
        self._tick = tick
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._at_ns = FOREVER
        self._is_stopped = False

    def set(self, deadline_ns: int) -> None:
        """Ring by then; one that is set already and comes earlier may ring instead."""
        if deadline_ns >= self._at_ns or self._is_stopped:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._at_ns = deadline_ns
        wait_s = max(0, deadline_ns - self._clock()) / 1e9
        self._timer = self._loop.call_later(wait_s, self._ring)

    def stop(self) -> None:
        """Ring no more."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _ring(self) -> None:
        late_ns = self._clock() - self._at_ns
        self._timer = None
        if late_ns > LATE_NS:
            # What has come meanwhile is read before the tick (D6 of the cores), so that a node
            # that stood still does not campaign against a leader whose heartbeats wait unread; an
            # event loop reads between two of its turns.
            self._loop.call_soon(self._loop.call_soon, self._now)
        else:
            self._now()

    def _now(self) -> None:
        self._at_ns = FOREVER
        if not self._is_stopped:
            self._tick()
