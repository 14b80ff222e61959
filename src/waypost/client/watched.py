"""One service that is watched (or, with an empty name, all of them), and everybody who follows it.

``watching`` keeps it current; ``Watch`` and ``Service`` follow it.
"""

import asyncio
import time
import weakref
from collections.abc import Callable
from typing import Protocol

from waypost.client.view import View
from waypost.errors import WaypostError
from waypost.model import Change, Record, ServiceName


class Follower(Protocol):
    """Who is told each change."""

    def tell(self, told: list[Change]) -> None:
        """Take what changed."""
        ...

    def close(self) -> None:
        """There will be no more."""
        ...


class Keeper(Protocol):
    """Who keeps it current."""

    def heard_at_ms(self) -> int:
        """Unix time, in milliseconds, at which the registry was last heard; 0 if not connected."""
        ...

    async def ready(self, watched: "Watched", timeout_s: float) -> None:
        """Wait until something is known of it, or raise why nothing is."""
        ...

    def settle(self, watched: "Watched", *, at_any_cost: bool) -> None:
        """Bring its views up to what the watches have been told."""
        ...


class Watched:
    """One service (or with an empty name all of them), and everybody who follows it."""

    def __init__(self, service: ServiceName, keeper: Keeper) -> None:
        self.service = service
        self.view = View()
        self.watches: weakref.WeakSet[Follower] = weakref.WeakSet()
        self.refreshes: list[Callable[[], None]] = []
        """What is called after the view has changed: once per turn, or less often if it is slow."""
        self.due: asyncio.Handle | None = None
        """Runs while the view has changed and they have not been called."""
        self.rests_until = 0.0
        self.error: WaypostError | None = None
        """Why the registry will never let this be watched."""
        self.parts: list[Record] = []
        """Of a snapshot that has not come whole."""
        self.watch_id = 0
        """On the current connection; 0 while it is not being watched there."""
        self.as_of_ms = 0
        """Unix time at which the view was last known to be current; for a live one, ask ``age``."""
        self.saved_at = 0.0
        self.hold: asyncio.TimerHandle | None = None
        """Runs while the view holds what the registry has forgotten."""
        self.changed = asyncio.Event()
        self._keeper = keeper

    @property
    def is_followed(self) -> bool:
        """Whether anybody wants it to be kept current."""
        return bool(self.refreshes or self.watches)

    @property
    def age_s(self) -> float:
        """Seconds since it was last known to be current."""
        return max(0.0, time.time() - self.current_at_ms() / 1000)

    def current_at_ms(self) -> int:
        """Unix time, in milliseconds, at which the view was last known to be current."""
        heard_at_ms = self._keeper.heard_at_ms()
        if self.view.source == "follower" and heard_at_ms:
            return heard_at_ms
        return self.as_of_ms

    async def ready(self, timeout_s: float) -> None:
        """Wait until anything is known, from the registry or, while it is away, from disk."""
        await self._keeper.ready(self, timeout_s)

    def settle(self, *, at_any_cost: bool = False) -> None:
        """Bring the views up to what the watches have been told."""
        self._keeper.settle(self, at_any_cost=at_any_cost)
