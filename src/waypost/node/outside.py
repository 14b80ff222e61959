"""Epochs whose log is kept outside, as the engine and the members' changes need them.

One who speaks with such a log makes the core of the epoch, takes there what the core asks for, and
brings it what stands there (``waypost.consensus.outside``).
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from waypost.catalog.snapshots import dump
from waypost.consensus.core import Boot, Core, Nid, Snap
from waypost.consensus.epoch import Epoch
from waypost.errors import WaypostError
from waypost.node.node import Node
from waypost.replica.member import MemberStatus
from waypost.storage.snapshots import SnapshotStore


class Self:
    """Who takes part."""

    def __init__(
        self,
        nid: Nid,
        node: Node,
        cluster: str,
        address: str,
        snapshots: SnapshotStore,
        now: Callable[[], int],
    ) -> None:
        """``now`` is the time that the member under the node was told last."""
        self.nid = nid
        self.node = node
        self.cluster = cluster
        self.address = address
        self.snapshots = snapshots
        self.now = now

    async def state_bytes(self) -> int:
        """How large its state is as a snapshot."""
        size = 0
        for chunk in dump(self.node.catalog):
            size += len(chunk)
            await asyncio.sleep(0)
        return size


class Outside(Protocol):
    """Who speaks with logs that are kept outside; with one at a time."""

    def make(self, epoch: Epoch, boot: Boot) -> Core:
        """Make the core of an epoch, and begin to take part in it."""
        ...

    def attach(self, engine: "Inside") -> None:
        """This is the engine; from here on there is somebody to tell."""
        ...

    def pump(self) -> bool:
        """Take what the core asks for to the log; whether there was anything."""
        ...

    def moved(self, status: MemberStatus) -> None:
        """The node is in another epoch, or the one it is in was released."""
        ...

    def why(self, token: int) -> WaypostError | None:
        """Why that proposal was refused, if there is more to be said than that it was."""
        ...

    @property
    def is_on(self) -> bool:
        """Whether the present epoch is one of these."""
        ...

    @property
    def is_busy(self) -> bool:
        """Whether an entry is on its way there."""
        ...

    @property
    def is_writable(self) -> bool:
        """Whether an append has a chance."""
        ...

    @property
    def is_restoring(self) -> bool:
        """Whether a state is being fetched from there."""
        ...

    @property
    def fresh_ns(self) -> int:
        """What was handed over is no older than what was committed at this moment."""
        ...

    async def preflight(self, settings: dict[str, str]) -> str:
        """Raise ``Invalid`` with all that is wrong, seen from here; return what tells it from
        another such place.
        """
        ...

    async def stop(self) -> None:
        """Finish what is on its way, and leave."""
        ...


class Inside(Protocol):
    """The engine, as who speaks with such a log needs it."""

    @property
    def member_status(self) -> MemberStatus:
        """Where this node stands."""
        ...

    @property
    def applied(self) -> int:
        """Index of the last entry that the state has."""
        ...

    @property
    def is_taking_snapshot(self) -> bool:
        """Whether a snapshot is being written of the state, or loaded into it."""
        ...

    def now(self) -> int:
        """The time, as the core is to be told it."""
        ...

    def told(self) -> None:
        """The core has heard something: see what is to do."""
        ...

    def snapshot_staged(self, src: int, snap: Snap, epoch: Epoch) -> None:
        """A state has come in, and is durable here."""
        ...

    def fail(self, error: BaseException) -> None:
        """This node can take part no more."""
        ...
