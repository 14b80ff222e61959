"""Puts entries into the log: one transaction each, one at a time, each at most once.

``P/owner/<node>`` makes it exact.  Every transaction of a node puts it (value: the entry's ulid)
under the condition that it was put so many times before, in this run.  So an answer that was lost
costs nothing: the same transaction is sent again, and if the first one got in, or gets in later,
the second does not; which of them did, the key tells.  And a process that was replaced by another
one of the same name writes no more.

What arrives while a transaction is on its way waits for it, and goes as the next entry: group
commit by itself.  One at a time, since a node's entries must keep their order.
"""

import asyncio
import logging
from collections import deque
from typing import Final, Protocol

import msgspec

from waypost.consensus.core import KIND_SEAL
from waypost.errors import CorruptData, Invalid, Superseded, TimedOut, Unavailable, WaypostError
from waypost.node.etcd import rpc
from waypost.node.etcd.client import EtcdClient
from waypost.node.etcd.layout import BATCH_BYTES_MAX, Keys, encode_entry, new_ulid

log = logging.getLogger("waypost.etcd")

WRITE_S: Final = 5.0
"""After so long without an answer the outcome is called unknown."""
_RETRY_S: Final = 0.05
_TAKE_OVERS: Final = 4


class Item(msgspec.Struct, frozen=True):
    """One entry to be put."""

    token: int
    ulid: bytes
    kind: int
    payload: bytes
    guard: tuple[bytes, int] | None
    """A key that must still be the one created at that revision."""


class Waiting(Protocol):
    """Who hears what becomes of an item; of those that got in, the watch tells."""

    def not_put(self, item: Item, error: WaypostError) -> None:
        """It is not in the log (``TimedOut``: or it may be, or may yet come)."""
        ...

    def settled(self) -> None:
        """The next one can be taken."""
        ...


class Writer:
    """The entries of one node, in order."""

    def __init__(self, client: EtcdClient, keys: Keys, node: str, waiting: Waiting) -> None:
        self._client = client
        self._keys = keys
        self._node = node
        self.owner_key = keys.owner(node)
        self._waiting = waiting
        self._queue: deque[Item] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._created = 0
        self._version = 0
        self.is_reachable = True
        """Whether the last attempt was answered, be it to write or to confirm a read."""
        self._answered = 0.0
        self.write_s = WRITE_S
        self.transactions = 0
        self.seconds = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether an entry is on its way."""
        return not self._idle.is_set()

    def put(self, item: Item) -> None:
        """Take an entry on."""
        if len(item.payload) > BATCH_BYTES_MAX:
            error = Invalid(
                f"batch: {len(item.payload)} bytes, and etcd takes {BATCH_BYTES_MAX}: send less at "
                "once",
                field="batch",
            )
            self._waiting.not_put(item, error)
            return
        self._queue.append(item)
        self._idle.clear()
        self._wake.set()

    async def drained(self) -> None:
        """Wait until nothing is on its way."""
        await self._idle.wait()

    def answered(self) -> None:
        """Take note that etcd, a majority of it, answers."""
        self._answered = asyncio.get_running_loop().time()
        self.is_reachable = True

    def unanswered(self, asked: float) -> None:
        """Take note that what was asked then was not answered; if nothing was since, that tells."""
        if asked >= self._answered:
            self.is_reachable = False

    async def take_over(self) -> None:
        """Become the one that writes under this node's name; who did before can no more."""
        key = self.owner_key
        for attempt in range(_TAKE_OVERS):
            # An attempt whose answer was lost is deleted by the next one.
            await self._client.delete(key)
            try:
                answer = await self._client.txn([rpc.created_at(key, 0)], [rpc.put(key, b"-")])
            except TimedOut:
                if attempt == _TAKE_OVERS - 1:
                    raise
                continue
            if answer.succeeded:
                self._created, self._version = answer.header.revision, 1
                return
        raise Superseded(
            f"somebody else takes the name {self._node!r} at etcd again and again: give each node "
            "a name of its own"
        )

    def check_owner(self, owner: rpc.KeyValue) -> None:
        """Raise ``Superseded`` unless this is the process that writes under the node's name."""
        if owner.create_revision != self._created:
            raise Superseded(
                f"another process took over the name {self._node!r} at etcd: give each node a name "
                "of its own"
            )

    async def give_back(self) -> None:
        """Forget the name: this node writes no more."""
        key = self.owner_key
        await self._client.txn([rpc.created_at(key, self._created)], [rpc.delete(key)])

    async def run(self) -> None:
        """Put what is taken on, for ever; raises what ends this node's writing for good."""
        while True:
            while not self._queue:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
            item = self._queue.popleft()
            try:
                await self._put(item)
            except (Superseded, CorruptData) as error:
                self._waiting.not_put(item, _unknown(error.message))
                raise
            if not self._queue:
                self._idle.set()
            self._waiting.settled()

    async def _put(self, item: Item) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        is_first = True
        while True:
            tried = loop.time()
            try:
                answer = await self._try(item)
            except TimedOut as error:
                self.unanswered(tried)
                if loop.time() - began >= self.write_s:
                    self._waiting.not_put(item, _unknown(error.message))
                    return
                is_first = False
                await asyncio.sleep(_RETRY_S)
                continue
            except WaypostError as error:
                # This attempt was refused; of an earlier one that is not known.
                self._waiting.not_put(item, error if is_first else _unknown(error.message))
                return
            self.answered()
            if answer.succeeded:
                self._version += 1
                self.transactions += 1
                self.seconds += loop.time() - began
                return
            if self._is_settled_by(answer, item):
                return

    async def _try(self, item: Item) -> rpc.TxnAnswer:
        keys = self._keys
        owner = self.owner_key
        compares = [
            rpc.created_at(owner, self._created),
            rpc.version_is(owner, self._version),
            rpc.created_at(keys.entry(item.ulid), 0),
            rpc.created_at(keys.seal, 0),
            rpc.exists(keys.init),
        ]
        puts = [
            rpc.put(keys.entry(item.ulid), encode_entry(item.kind, item.payload)),
            rpc.put(keys.head, item.ulid),
            rpc.put(owner, item.ulid),
        ]
        gets = [rpc.get(owner), rpc.get(keys.seal), rpc.get(keys.init)]
        if item.guard is not None:
            compares.append(rpc.created_at(*item.guard))
        if item.kind == KIND_SEAL:
            puts.append(rpc.put(keys.seal, item.payload))
        return await self._client.txn(compares, puts, gets)

    def _is_settled_by(self, answer: rpc.TxnAnswer, item: Item) -> bool:
        """Say why the compares did not hold; False: send it again."""
        owner, seal, init = (each.one for each in answer.ranges)
        if seal.create_revision and not owner.create_revision:
            self._waiting.not_put(item, _unknown("the log has ended, and was cleared away"))
            return True
        self.check_owner(owner)
        if owner.version != self._version:
            assert owner.version > self._version
            log.info(
                "an answer of etcd was lost: %d entries, and not %d", owner.version, self._version
            )
            self._version = owner.version
            return owner.value == item.ulid  # an earlier attempt of this one: the watch tells it
        # From here on: no attempt has got in, and none can but one still under way.
        if not init.create_revision:
            raise CorruptData(
                f"etcd: {self._keys.prefix} is gone: somebody deleted the registry's log"
            )
        if seal.create_revision:
            error = Unavailable("the log is sealed, and goes on elsewhere: retry in a moment")
            self._waiting.not_put(item, error)
            return True
        assert item.guard is not None, "a compare failed, and none of its keys tells why"
        self._waiting.not_put(item, Unavailable("this node may not write that any more"))
        return True


def new_item(token: int, kind: int, payload: bytes, guard: tuple[bytes, int] | None = None) -> Item:
    """Make an item, with a ulid of its own."""
    return Item(token, new_ulid(), kind, payload, guard)


def _unknown(why: str) -> TimedOut:
    return TimedOut(f"the change may still be applied, ask for the state before retrying: {why}")
