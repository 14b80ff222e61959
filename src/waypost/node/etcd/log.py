"""The ordered log over etcd: append, one stream of entries, barrier, seal.

One watch over ``P/head`` and ``P/log/`` gives every entry once and in order; a connection that
breaks is taken up where the log stands, and where etcd has compacted that away, what is missing is
read, or a snapshot loaded.

Always true: entries are handed over in the order of their indexes, each once; every token gets
exactly one answer; nothing is handed over after a Seal.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from waypost.consensus.core import KIND_BATCH, KIND_SEAL
from waypost.errors import CorruptData, TimedOut, Unavailable, WaypostError
from waypost.node.etcd import rpc
from waypost.node.etcd.client import Compacted, EtcdClient
from waypost.node.etcd.layout import Keys, LogEntry, SnapHead, entries_in
from waypost.node.etcd.reading import Found, Position, read
from waypost.node.etcd.writer import Item, Writer, new_item

log = logging.getLogger("waypost.etcd")

FRESH_S: Final = 1.0
"""How often a node that hears nothing asks whether there is nothing to hear."""
_RETRY_S: Final = 0.1
_LEAVE_S: Final = 2.0
ANSWER_S: Final = 15.0
"""Of an entry that waits behind others which are given up one after the other: never longer."""
_NO_TOKEN: Final = (0, 0.0)


class Follower(Protocol):
    """Who the entries are for."""

    def entry(self, index: int, kind: int, payload: bytes, token: int) -> None:
        """The entry at ``index``; ``token`` is 0 unless this log's ``append`` proposed it."""
        ...

    async def restored(self, snapshot: SnapHead, chunks: list[bytes]) -> None:
        """So much was missed that the state must be replaced: by that of this snapshot."""
        ...

    def refused(self, token: int, error: WaypostError) -> None:
        """What was appended or asked for did not happen (``TimedOut``: or may have, or may yet)."""
        ...

    def caught_up(self, token: int) -> None:
        """All that was committed before ``barrier(token)`` has been handed over."""
        ...

    def settled(self) -> None:
        """The next batch can be taken."""
        ...

    def ended(self, error: WaypostError) -> None:
        """This node can follow the log no more; nothing that waits is answered after this."""
        ...


class EtcdLog:
    """One node's part in the log of one epoch."""

    def __init__(
        self,
        client: EtcdClient,
        keys: Keys,
        node: str,
        found: Found,
        follower: Follower,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.client = client
        self.keys = keys
        self.base = found.init.s
        self.position: Position = found.position
        """How far the log was handed over."""
        self.snapshot: SnapHead | None = found.snapshot
        self.bytes_since_snapshot = sum(len(each.payload) for each in found.entries)
        self.entries_since_snapshot = len(found.entries)
        self.is_sealed = any(each.kind == KIND_SEAL for each in found.entries)
        self.fresh_ns = 0
        """What was handed over is no older than what was committed at this moment of the clock."""
        self._clock = clock
        self._follower = follower
        self.writer = Writer(client, keys, node, self)
        self._tokens: dict[bytes, tuple[int, float]] = {}
        self._mod_revision = found.entries[-1].mod_revision if found.entries else 0
        self._barriers: list[int] = []
        self._passing: list[tuple[int, int, list[int]]] = []
        self._ask = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []
        self._failure: WaypostError | None = None

    # Life

    async def start(self) -> None:
        """Take this node's name over, and follow the log from where ``found`` ended."""
        await self.writer.take_over()
        self.fresh_ns = self._clock()
        self.tasks = [
            asyncio.create_task(self._guarded(part))
            for part in (self.writer.run, self._watch, self._confirm)
        ]

    async def stop(self) -> None:
        """Finish what is on its way, and leave; the caller answers for what is not."""
        goes_in_peace = self._failure is None and bool(self.tasks)
        try:
            async with asyncio.timeout(_LEAVE_S):
                if goes_in_peace:
                    await self.writer.drained()
        except TimeoutError:
            log.warning("left etcd with a write under way")
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if goes_in_peace:
            try:
                await self.writer.give_back()
            except WaypostError as error:
                log.info("the name of this node stays taken until its next start: %s", error)

    # Using it

    @property
    def index(self) -> int:
        """Of the last entry handed over."""
        return self._index(self.position.version)

    @property
    def last_entry(self) -> Position:
        """Of the last entry handed over: its version, and etcd's revision that put it."""
        return Position(self.position.version, self._mod_revision)

    @property
    def is_busy(self) -> bool:
        """An entry is on its way: what comes now should pile up into the next."""
        return self.writer.is_busy

    @property
    def is_writable(self) -> bool:
        """Whether an append has a chance."""
        return self._failure is None and not self.is_sealed and self.writer.is_reachable

    @property
    def transactions(self) -> tuple[int, float]:
        """How many entries were put, and the seconds that it took in all."""
        return self.writer.transactions, self.writer.seconds

    def append(
        self,
        payload: bytes,
        token: int,
        *,
        kind: int = KIND_BATCH,
        guard: tuple[bytes, int] | None = None,
    ) -> None:
        """Propose an entry; with a guard only as long as that key was created at that revision."""
        if self._failure is not None:
            self._follower.refused(token, self._failure)
        elif self.is_sealed:
            error = Unavailable("the log is sealed, and goes on elsewhere: retry in a moment")
            self._follower.refused(token, error)
        else:
            item = new_item(token, kind, payload, guard)
            self._tokens[item.ulid] = token, time.monotonic() + ANSWER_S
            self.writer.put(item)

    def seal(self, payload: bytes, token: int) -> None:
        """Propose the Seal: the last entry of this epoch; ``payload`` names the next."""
        self.append(payload, token, kind=KIND_SEAL)

    def barrier(self, token: int) -> None:
        """Ask for ``caught_up(token)``: a linearizable read."""
        if self._failure is not None:
            self._follower.refused(token, self._failure)
            return
        self._barriers.append(token)
        self._ask.set()

    # What the writer tells

    def not_put(self, item: Item, error: WaypostError) -> None:
        """Pass on that an item is not in the log, or may not be."""
        if self._tokens.pop(item.ulid, None) is not None:
            self._follower.refused(item.token, error)

    def settled(self) -> None:
        """Pass on that the next batch can be taken."""
        self._follower.settled()

    # Following

    async def _watch(self) -> None:
        is_broken = False
        while not self.is_sealed:
            start = self.position.revision + 1
            keys = self.keys
            request = rpc.watch_request(keys.head, keys.log_end, start, puts_only=True)
            try:
                async for answer in self.client.watch(request):
                    is_broken = False
                    if self._took_seal(answer):
                        return
            except Compacted:
                log.warning("etcd has compacted what this node was to hear: reading it")
                await self._read_on()
            except Unavailable as error:
                level = logging.DEBUG if is_broken else logging.WARNING
                log.log(level, "the watch of the log broke: %s", error)
                is_broken = True
                await asyncio.sleep(_RETRY_S)

    def _took_seal(self, answer: rpc.WatchAnswer) -> bool:
        for entry in entries_in(self.keys, answer.events):
            self._hand_over(entry)
        self._pass_barriers()
        return self.is_sealed

    def _hand_over(self, entry: LogEntry) -> None:
        expected = self.position.version + 1
        if entry.version != expected:
            raise CorruptData(
                f"etcd: {self.keys.prefix}/head came to version {entry.version} after "
                f"{expected - 1}: it was deleted, or etcd was restored from a backup"
            )
        self.position = Position(entry.version, entry.mod_revision)
        self._mod_revision = entry.mod_revision
        self.bytes_since_snapshot += len(entry.payload)
        self.entries_since_snapshot += 1
        token, _ = self._tokens.pop(entry.ulid, _NO_TOKEN)
        self.is_sealed = entry.kind == KIND_SEAL
        self._follower.entry(self._index(entry.version), entry.kind, entry.payload, token)

    async def _read_on(self) -> None:
        """Read what the watch can no longer tell."""
        try:
            found = await read(self.client, self.keys, self.position)
        except Unavailable as error:
            log.warning("%s", error)
            return
        assert found is not None
        if found.snapshot is not None:
            # What became of our own entries below the snapshot is in it, but not their outcomes.
            self._forget_tokens(TimedOut("the change was overtaken: ask for the state"))
            await self._follower.restored(found.snapshot, found.chunks)
            self.snapshot = found.snapshot
            self._mod_revision = found.snapshot.mod_revision
            self.position = Position(found.snapshot.version, found.snapshot.mod_revision)
            self.bytes_since_snapshot = self.entries_since_snapshot = 0
        for entry in found.entries:
            self._hand_over(entry)
        self.position = found.position
        self._pass_barriers()

    # Reads

    async def _confirm(self) -> None:
        """Ask for the head, for all barriers that wait at once; and now and then for nobody."""
        while True:
            try:
                async with asyncio.timeout(FRESH_S):
                    await self._ask.wait()
            except TimeoutError:
                pass
            self._ask.clear()
            self._forget_late_tokens()
            tokens, self._barriers = self._barriers, []
            asked, asked_ns = asyncio.get_running_loop().time(), self._clock()
            known = self.position.version  # the watch may run ahead of the answer
            try:
                answer = await self.client.snapshot_of(
                    [
                        rpc.get(self.keys.head),
                        rpc.get(self.writer.owner_key),
                        rpc.get(self.keys.seal),
                    ]
                )
            except (Unavailable, Compacted) as error:
                failed = Unavailable(f"no majority of etcd confirmed the read: {error}")
                for token in tokens:
                    self._follower.refused(token, failed)
                self.writer.unanswered(asked)
                continue
            self.writer.answered()
            head, owner, seal = (each.one for each in answer.ranges)
            if seal.create_revision and not head.create_revision:
                # Everyone else has left, and what is left is a tombstone.
                over = Unavailable("the log has ended, and goes on elsewhere: retry in a moment")
                for token in tokens:
                    self._follower.refused(token, over)
                continue
            self.writer.check_owner(owner)
            if head.version < known:
                raise CorruptData(
                    f"etcd: {self.keys.prefix}/head stands at version {head.version}, and this "
                    f"node has seen {known}: etcd was restored from a backup"
                )
            self._passing.append((head.version, asked_ns, tokens))
            self._pass_barriers()

    def _pass_barriers(self) -> None:
        while self._passing and self._passing[0][0] <= self.position.version:
            _, asked_ns, tokens = self._passing.pop(0)
            self.fresh_ns = asked_ns
            for token in tokens:
                self._follower.caught_up(token)

    # Ends

    async def _guarded(self, part: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await part()
        except Exception as error:  # noqa: BLE001 - whatever it is, this node is of no use any more
            if self._failure is None:
                told = error if isinstance(error, WaypostError) else CorruptData(f"etcd: {error!r}")
                log.critical("this node can follow the log in etcd no more: %r", error)
                self._failure = told
                self._tokens.clear()
                self._barriers, self._passing = [], []
                self._follower.ended(told)

    def _forget_tokens(self, error: WaypostError) -> None:
        tokens, self._tokens = self._tokens, {}
        for token, _ in tokens.values():
            self._follower.refused(token, error)

    def _forget_late_tokens(self) -> None:
        """Answer for what etcd has taken and the watch does not bring."""
        now = time.monotonic()
        while self._tokens:
            ulid, (token, until) = next(iter(self._tokens.items()))
            if until > now:
                return
            del self._tokens[ulid]
            error = TimedOut("etcd has not told the change: ask for the state before retrying")
            self._follower.refused(token, error)

    def _index(self, version: int) -> int:
        return self.base + version - 1
