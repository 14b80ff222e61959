"""The other nodes, as the engine, the node and its doors need them (``cluster`` is both)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from waypost.replica.peer_messages import PeerMessage
from waypost.wire import ClusterAsk, ClusterState


class Others(Protocol):
    """The other nodes."""

    def send(self, messages: tuple[tuple[int, PeerMessage], ...]) -> None:
        """Carry messages to them, or drop them."""
        ...

    def want(self, addresses: dict[int, str]) -> None:
        """Keep in touch with these."""
        ...

    def send_snapshot(self, nid: int, index: int) -> None:
        """Bring one of them the newest snapshot; ``snapshot_sent`` says what came of it."""
        ...

    @property
    def is_taking(self) -> bool:
        """Whether a snapshot is coming in from one of them."""
        ...


class OtherNodes(Protocol):
    """The other nodes of the cluster, and those who want to belong to it."""

    def accept(self, transport: asyncio.Transport, body: bytes) -> None:
        """Take over a connection that began with ``PEER_HELLO``."""
        ...

    def genesis(self, body: bytes) -> bytes:
        """Answer a machine that has no cluster."""
        ...

    async def ask(self, ask: ClusterAsk) -> ClusterState:
        """Answer what a client asks about the members, or do it."""
        ...

    async def all_seen(self, service: str, revision: int, deadline_ms: int) -> tuple[int, int]:
        """Wait until all who watch a service at other nodes have applied ``revision``.

        Returns how many watch there, and how many of them had not confirmed when time was up.
        """
        ...

    async def call_owner(self, name: str, session: str) -> None:
        """Have the node that owns a session hear that it is alive."""
        ...

    async def call(self, name: str, verb: str, body: bytes) -> bytes:
        """Ask one of them, by its name, what ``serve`` was told to answer there."""
        ...

    def serve(self, verb: str, answer: Callable[[int, bytes], Awaitable[bytes]]) -> None:
        """Answer what another one asks."""
        ...

    def heard_ns(self, name: str) -> int:
        """When a node was last heard, by its name; 0 for never."""
        ...

    def is_cut_off(self) -> bool:
        """Whether less than a majority is heard here: others may do better."""
        ...

    async def hand_over(self) -> None:
        """If this node leads, let another one lead."""
        ...

    async def close(self) -> None:
        """Leave them alone."""
        ...
