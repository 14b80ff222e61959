"""What one node does for all: end the sessions of lost nodes, and write snapshots into etcd.

It is done by whoever holds ``P/expirer``; an ``Expire`` is bound to that in its transaction.  The
lease of a session begins anew with each one who takes the duty over.
"""

import asyncio
import logging
from typing import Final, Protocol

from waypost.commands import Command, encode_batch, encode_part
from waypost.errors import WaypostError
from waypost.node.absences import Absences, Owners
from waypost.node.etcd.log import EtcdLog
from waypost.node.etcd.members import Guard, Members
from waypost.node.etcd.snapshots import is_due, write_snapshot
from waypost.node.node import Node

log = logging.getLogger("waypost.etcd")

_LOOK_S: Final = 1.0
_EXPIRES_PER_BATCH: Final = 256


class Stand(Protocol):
    """Where a node's copy of the log is."""

    @property
    def applied(self) -> int:
        """Index of the last entry that its state has."""
        ...

    @property
    def chain(self) -> int:
        """Of that entry."""
        ...


class Duties:
    """One node's readiness to do it."""

    def __init__(self, node: Node, ordered: EtcdLog, members: Members, stand: Stand) -> None:
        self._node = node
        self._clock = node.clock
        self._log = ordered
        self._members = members
        self._stand = stand
        owners = Owners(self._owner_names, node.sessions_of, self._heard_ns)
        self._due: list[Command] = []
        self._absences = Absences(node.name, owners, self._due.append)

    async def run(self) -> None:
        """Do what is due, as long as it is this node's to do."""
        guard: Guard | None = None
        while True:
            await asyncio.sleep(_LOOK_S)
            if guard != self._members.guard:
                guard = self._members.guard
                self._absences.begin(self._clock())
            if guard is None:
                continue
            try:
                self._expire_lost(guard)
                await self._maybe_snapshot()
            except WaypostError as error:
                log.warning("%s", error)

    def _expire_lost(self, guard: Guard) -> None:
        self._absences.tick(self._clock())
        due = self._due[:]
        self._due.clear()
        for start in range(0, len(due), _EXPIRES_PER_BATCH):
            part = encode_part(due[start : start + _EXPIRES_PER_BATCH])
            payload = encode_batch(self._node.catalog.now_ms, [part])
            self._log.append(payload, 0, guard=guard)

    def _owner_names(self) -> set[str]:
        return {session.node for session in self._node.catalog.sessions}

    def _heard_ns(self, name: str) -> int:
        if name in self._members.alive:
            return self._clock()
        return self._members.lost_ns.get(name, 0)

    async def _maybe_snapshot(self) -> None:
        ordered = self._log
        if is_due(ordered.snapshot, ordered.entries_since_snapshot, ordered.bytes_since_snapshot):
            await self.snapshot()

    async def snapshot(self) -> None:
        """Write a snapshot of the state now, and drop the entries that it holds."""
        ordered = self._log
        index, at = ordered.index, ordered.last_entry
        if index != self._stand.applied or ordered.is_sealed:
            return  # a state is just being loaded, or the log has ended
        ordered.entries_since_snapshot = ordered.bytes_since_snapshot = 0
        chain = self._stand.chain
        _, chunks = self._node.dump()
        head = await write_snapshot(ordered.client, ordered.keys, index, at, chunks, chain=chain)
        if head is not None:
            ordered.snapshot = head
