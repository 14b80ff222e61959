"""One node's part in one epoch that etcd keeps, beside the copy of the log that its core holds.

The first leader makes the layout at once, with its own state; another member does when nothing is
there after a while, which grows with its rank.  Everyone compares the state that the log begins
with to his own before he appends.  Who holds less than etcd's snapshot takes that one over, as he
would a peer's.

Always true: nothing is taken to the log before this node has compared; what the log brings reaches
the core in order, each once, from where the core stands.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from waypost.catalog.snapshots import dump
from waypost.consensus.core import KIND_BATCH, KIND_SEAL, Outcome, Snap
from waypost.consensus.epoch import Epoch
from waypost.consensus.outside import OutsideCore
from waypost.errors import CorruptData, Superseded, TimedOut, Unavailable, WaypostError
from waypost.node.etcd import rpc
from waypost.node.etcd.client import EtcdClient
from waypost.node.etcd.duties import Duties
from waypost.node.etcd.layout import Keys, SnapHead, ballot_in, keys_of
from waypost.node.etcd.log import EtcdLog
from waypost.node.etcd.members import Members
from waypost.node.etcd.opening import compare, open_epoch
from waypost.node.etcd.reading import Found, read
from waypost.node.outside import Inside, Self

log = logging.getLogger("waypost.etcd")

TURN_S: Final = 2.0
"""After so long without the layout it is the next member's turn to make it."""
_LOOK_S: Final = 0.01
_AGAIN_S: Final = 0.5


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another part of this node brings about."""
    while True:
        if condition():
            return
        await asyncio.sleep(_LOOK_S)


class Part:
    """See the module; follows the log (``log.Follower``)."""

    is_over: bool
    """The node has left this epoch: nothing is told it of this any more."""

    def __init__(
        self,
        me: Self,
        epoch: Epoch,
        core: OutsideCore,
        client: EtcdClient,
        root: str,
        errors: dict[int, WaypostError],
    ) -> None:
        self.epoch = epoch
        self.client = client
        self.keys: Keys = keys_of(root, me.cluster, epoch)
        self.is_over = False
        self.is_restoring = False
        self._me = me
        self._core = core
        self._root = root
        self._errors = errors
        self._engine: Inside
        self._log: EtcdLog | None = None
        self._members: Members | None = None
        self._duties: Duties | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, engine: Inside) -> None:
        """Begin to take part."""
        self._engine = engine
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def leave(self) -> None:
        """Finish what is on its way, and let the others know."""
        self.is_over = self.is_over or self._log is None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._log is not None:
            await self._log.stop()
        self.is_over = True
        if self._members is not None:
            await self._members.stop()

    # As the engine sees it

    @property
    def is_busy(self) -> bool:
        """Whether an entry is on its way."""
        return self._log is not None and self._log.is_busy

    @property
    def is_writable(self) -> bool:
        """Whether an append has a chance."""
        return self._log is not None and self._log.is_writable

    @property
    def fresh_ns(self) -> int:
        """What was handed over is no older than this."""
        return 0 if self._log is None else self._log.fresh_ns

    def pump(self) -> bool:
        """Take what the core asks for to the log."""
        ordered = self._log
        if ordered is None or self.is_over:
            return False
        self._core.fresh_at(ordered.fresh_ns)
        asked = self._core.asked()
        for ask in asked:
            if ask.kind is None:
                ordered.barrier(ask.number)
            else:
                ordered.append(ask.payload, ask.number, kind=ask.kind)
        return bool(asked)

    # As the duties see it

    @property
    def applied(self) -> int:
        """Index of the last entry that the state has."""
        return self._engine.applied

    @property
    def chain(self) -> int:
        """Of the last entry that is held."""
        return self._core.chain

    # Coming

    async def _run(self) -> None:
        complaint = ""
        while True:
            try:
                await self._take_part()
                return
            except (CorruptData, Superseded) as error:
                self._engine.fail(error)
                return
            except WaypostError as error:
                if error.message != complaint:
                    complaint = error.message
                    log.warning("epoch %d cannot be entered: %s", self.epoch.number, error)
            await asyncio.sleep(_AGAIN_S)

    async def _take_part(self) -> None:
        me, core = self._me, self._core
        # A state may be being loaded.
        await until(lambda: self._engine.applied == core.last or self.is_over)
        found = await self._find()
        await self._catch_up(found)
        ordered = EtcdLog(self.client, self.keys, me.node.name, found, self, me.node.clock)
        self._take(found)
        if self.is_over:
            return
        await ordered.start()
        self._log = ordered
        self._engine.told()
        log.info("epoch %d goes on in etcd at %s", self.epoch.number, self.client.endpoint)
        members = Members(self.client, self.keys, me.node.name, me.address, me.node.clock)
        await self._until_done(members)

    def _take(self, found: Found) -> None:
        """Take what the log held when it was read."""
        for entry in found.entries:
            index = found.init.s + entry.version - 1
            if index > self._core.last:
                self.entry(index, entry.kind, entry.payload, 0)
            elif not self._core.holds(index, entry.kind, entry.payload):
                raise CorruptData(
                    f"etcd: entry {index} in {self.keys.prefix} is not the one that this node has: "
                    "one of them has diverged; stop this node and compare them"
                )

    async def _until_done(self, members: Members) -> None:
        """Live, and do what one does for all."""
        assert self._log is not None
        while True:
            try:
                await members.start()
                break
            except WaypostError as error:
                log.warning("etcd has not taken this node's lease: %s", error)
                await asyncio.sleep(_AGAIN_S)
        self._members = members
        self._duties = Duties(self._me.node, self._log, members, self)
        await self._duties.run()

    async def _find(self) -> Found:
        """Read what the log holds beyond this node; begin it, if it is this node's turn."""
        epoch, core = self.epoch, self._core
        s = epoch.first - 1
        if core.last == s:
            await self._wait_for_turn()
            _, found = await open_epoch(
                self.client,
                self._root,
                self._me.cluster,
                epoch,
                self._me.node.name,
                lambda: dump(self._me.node.catalog),
                is_own=True,
                is_checked=True,
                held=1,
                chain=core.chain,
            )
            return found
        held = max(0, core.last - s + 1)
        read_here = await read(self.client, self.keys, None, held=held)
        if read_here is None:
            if held:
                raise CorruptData(
                    f"etcd: {self.keys.prefix} is gone, and this node has seen {held} entries of "
                    "it: somebody deleted the registry's log; restore etcd from a backup"
                )
            raise Unavailable(f"{self.keys.prefix} is not begun yet: it is tried again")
        compare(self.client, self.keys, read_here.init, epoch)
        return read_here

    async def _wait_for_turn(self) -> None:
        epoch = self.epoch
        order = sorted(epoch.members, key=lambda nid: (nid != epoch.first_leader, nid))
        loop = asyncio.get_running_loop()
        until = loop.time() + order.index(self._me.nid) * TURN_S
        request = rpc.range_request(self.keys.init, keys_only=True)
        while loop.time() < until:
            if (await self.client.range(request)).kvs:
                return
            await asyncio.sleep(_LOOK_S)

    async def _catch_up(self, found: Found) -> None:
        """Take the state over that the log begins with here, if this node holds less."""
        begun, s = found.snapshot, found.init.s
        if begun is not None and self._core.last < begun.index:
            await self.restored(begun, found.chunks)
        elif self._core.last < s:
            snap = Snap(s, self.epoch.seal_ballot, KIND_SEAL, found.init.chain)
            await self._restore(snap, found.chunks)

    async def _restore(self, snap: Snap, chunks: list[bytes]) -> None:
        engine, store = self._engine, self._me.snapshots
        self.is_restoring = True
        try:
            await until(lambda: not engine.is_taking_snapshot)
            writer = await asyncio.to_thread(store.begin, snap, self.epoch)
            try:
                for chunk in chunks:
                    await asyncio.to_thread(writer.add, chunk)
                await asyncio.to_thread(writer.finish)
            except BaseException:
                await asyncio.shield(asyncio.to_thread(writer.abort))
                raise
        finally:
            self.is_restoring = False
        if not self.is_over:
            engine.snapshot_staged(self._me.nid, snap, self.epoch)

    # Follower

    def entry(self, index: int, kind: int, payload: bytes, token: int) -> None:
        """Pass an entry on."""
        if not self.is_over:
            self._core.entry(self._engine.now(), index, kind, payload, token)
            self._engine.told()

    async def restored(self, snapshot: SnapHead, chunks: list[bytes]) -> None:
        """Have the state replaced."""
        log.warning("this node missed too much: it goes on from the snapshot at %d", snapshot.index)
        ballot = ballot_in(self.epoch)
        await self._restore(Snap(snapshot.index, ballot, KIND_BATCH, snapshot.chain), chunks)

    def refused(self, token: int, error: WaypostError) -> None:
        """Pass a refusal on; a token of 0 is of the duties."""
        if self.is_over:
            return
        if not token:
            log.warning("sessions of a lost node were not expired, and will be: %s", error)
            return
        what: Outcome = "unknown" if isinstance(error, TimedOut) else "refused"
        asker = self._core.answered(self._engine.now(), token, what)
        if asker and type(error) not in (TimedOut, Unavailable):
            self._errors[asker] = error
        self._engine.told()

    def caught_up(self, token: int) -> None:
        """Pass it on."""
        if not self.is_over:
            self._core.confirmed(self._engine.now(), token)
            self._engine.told()

    def settled(self) -> None:
        """The next batch can be taken."""
        if not self.is_over:
            self._engine.told()

    def ended(self, error: WaypostError) -> None:
        """End this process's node."""
        if not self.is_over:
            with contextlib.suppress(Exception):
                self._engine.told()
            self._engine.fail(error)
