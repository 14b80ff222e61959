"""Does something again, after a wait that grows while nothing comes of it; then elsewhere."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from waypost.client.retry import Setbacks
from waypost.errors import WaypostError


class Mover(Protocol):
    """Who can change the node that is spoken to."""

    def leave(self) -> None:
        """Move to another node, if there is one."""
        ...


class Again:
    """One thing that must be done, and is tried until it is."""

    def __init__(self, work: Callable[[], None], *, draw: Callable[[], float]) -> None:
        self.link: Mover
        """Set by the registry, which makes the two of them."""
        self.setbacks = Setbacks(draw)
        self._work = work
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def is_due(self) -> bool:
        """Whether it is going to be tried again."""
        return self._timer is not None

    def later(self, error: WaypostError) -> None:
        """Try again in a while; for longer than a moment, at another node."""
        if self._timer is not None:
            return
        wait_ms = self.setbacks.met(error, int(self._loop.time() * 1000))
        if self.setbacks.should_move:
            self.link.leave()
        self._timer = self._loop.call_later(wait_ms / 1000, self._now)

    def cancel(self) -> None:
        """Do not try again: something else will see to it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _now(self) -> None:
        self._timer = None
        self._work()
