"""The log as a node sees it: bytes in, an ordered stream of ``(index, bytes)`` out.

``Engine`` is all that a node knows of how its log is kept; differences between engines are data in
``status``, never a class-name test.

Always true: entries reach the sink in index order, each once; each token gets exactly one
``committed`` or ``refused``; nothing is reported committed that is not durable (unless the engine
is in memory, and says so).
"""

from collections.abc import Iterator
from typing import Protocol

import msgspec

from waypost.catalog.state import Catalog
from waypost.errors import WaypostError


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
