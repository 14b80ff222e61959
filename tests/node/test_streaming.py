import asyncio
import random
from collections.abc import Callable

from waypost.consensus.core import Ballot, Snap
from waypost.consensus.epoch import Epoch, Peer
from waypost.node.streaming import CHUNK_BYTES, Sending, Taking
from waypost.storage.simdisk import SimDisk
from waypost.storage.snapshots import SnapshotStore
from waypost.transport.peer_frames import STREAM_BEGIN, STREAM_CHUNK, STREAM_END

SNAP = Snap(40, Ballot(1, 2, 3), 0, 77)
EPOCH = Epoch(9, 1, "raft", {1: Peer("a", "h:1"), 2: Peer("b", "h:2")}, 1, 1)


class World:
    """A node with a snapshot, one without, and a wire between them that can lose things."""

    def __init__(self, chunks: list[bytes]) -> None:
        self.theirs = SnapshotStore(SimDisk(), cluster=9, node=1)
        writer = self.theirs.begin(SNAP, EPOCH)
        for chunk in chunks:
            writer.add(chunk)
        writer.finish()
        self.ours = SnapshotStore(SimDisk(), cluster=9, node=2)
        self.content = b"".join(chunks)
        self.outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.staged: list[tuple[int, Snap, Epoch]] = []
        self.chunks_sent = 0
        self.is_lost: Callable[[int, bytes], bool] = lambda kind, body: False
        self.sending = Sending(self.theirs, self._to_taker, self._sent)
        self.taking = Taking(self.ours, self._to_sender, lambda *said: self.staged.append(said))

    def _to_taker(self, nid: int, kind: int, body: bytes) -> bool:
        assert nid == 2
        assert kind in (STREAM_BEGIN, STREAM_CHUNK, STREAM_END)
        self.chunks_sent += kind == STREAM_CHUNK
        if not self.is_lost(kind, body):
            self.taking.take(1, kind, body)
        return True

    def _to_sender(self, nid: int, kind: int, body: bytes) -> bool:
        assert nid == 1
        self.sending.take(2, kind, body)
        return True

    def _sent(self, nid: int, index: int, ok: bool) -> None:
        assert (nid, index) == (2, 40)
        self.outcome.set_result(ok)

    async def send(self) -> bool:
        self.outcome = asyncio.get_running_loop().create_future()
        self.sending.begin(2, 40, EPOCH)
        async with asyncio.timeout(10):
            return await self.outcome

    async def close(self) -> None:
        await self.sending.close()
        await self.taking.close()


def chunks_of(count: int, size: int) -> list[bytes]:
    chance = random.Random(count)
    return [chance.randbytes(size) for _ in range(count)]


def test_a_snapshot_arrives_whole_with_what_it_stands_for() -> None:
    async def run() -> None:
        world = World(chunks_of(7, CHUNK_BYTES + 1000))

        assert await world.send()

        kept = world.ours.newest()
        assert kept is not None
        assert kept.snap == SNAP
        assert kept.epoch == EPOCH
        assert b"".join(kept.chunks) == world.content
        assert world.staged == [(1, SNAP, EPOCH)]
        await world.close()

    asyncio.run(run())


def test_a_transfer_that_breaks_goes_on_where_it_was() -> None:
    async def run() -> None:
        world = World(chunks_of(20, CHUNK_BYTES))
        left = 12

        def breaks(kind: int, body: bytes) -> bool:
            nonlocal left
            left -= kind == STREAM_CHUNK
            if left == 0:
                asyncio.get_running_loop().call_soon(world.sending.lost, 2)
            return left <= 0

        world.is_lost = breaks
        assert not await world.send()
        assert world.ours.newest() is None
        world.is_lost = lambda kind, body: False
        before = world.chunks_sent

        assert await world.send()

        kept = world.ours.newest()
        assert kept is not None
        assert b"".join(kept.chunks) == world.content
        assert world.chunks_sent - before < 20
        await world.close()

    asyncio.run(run())


def test_a_damaged_chunk_makes_no_snapshot_and_leaves_no_file() -> None:
    async def run() -> None:
        world = World(chunks_of(3, 1000))
        take = world.taking.take

        def damage(src: int, kind: int, body: bytes) -> None:
            if kind == STREAM_CHUNK:
                body = body[:-1] + bytes([body[-1] ^ 1])
            take(src, kind, body)

        world.taking.take = damage  # type: ignore[method-assign]

        assert not await world.send()

        assert world.staged == []
        assert world.ours.newest() is None
        await world.close()

    asyncio.run(run())


def test_a_node_that_writes_a_snapshot_of_its_own_takes_none() -> None:
    async def run() -> None:
        world = World(chunks_of(1, 1000))
        world.taking.is_allowed = lambda: False

        assert not await world.send()
        await world.close()

    asyncio.run(run())
