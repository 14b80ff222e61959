import asyncio
import random
import time
from collections.abc import Callable
from typing import cast

import msgspec

from waypost import wire
from waypost.transport import peer_frames
from waypost.transport.frames import FrameReader, encode_frame
from waypost.transport.link import UNSENT_BYTES_MAX
from waypost.transport.peer_frames import MEMBER, PEER_HELLO, PEER_VERSION, PeerHello
from waypost.transport.peers import Peers


class Side:
    """One node's peers, behind a port that hands over who dials it."""

    def __init__(
        self, nid: int, *, cluster: str = "c1", nonce: int = 1, lineage: int = 7, deaf: bool = False
    ) -> None:
        self.nid = nid
        self.said: list[tuple[int, bytes]] = []
        self.came: list[int] = []
        self.left: list[int] = []
        self.unreachable: list[int] = []
        self.gone: list[int] = []
        self.deaf = deaf
        self._changed = asyncio.Event()
        self._hello = PeerHello(PEER_VERSION, cluster, lineage, nid, f"n{nid}", nonce, "")
        self.peers: Peers
        self.server: asyncio.Server

    async def start(self, port: int = 0) -> "Side":
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Door(self), "127.0.0.1", port)
        address = f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        self._hello = msgspec.structs.replace(self._hello, address=address)
        draw = random.Random(self.nid).random
        self.peers = Peers(self._hello, self, clock=time.monotonic_ns, draw=draw)
        return self

    @property
    def address(self) -> str:
        return self._hello.address

    @property
    def port(self) -> int:
        return int(self.address.rsplit(":", 1)[1])

    async def stop(self) -> None:
        self.server.close()
        await self.peers.close()
        await self.server.wait_closed()

    async def until(self, what: "Callable[[], bool]") -> None:
        async with asyncio.timeout(10):
            while not what():
                self._changed.clear()
                await self._changed.wait()

    # Peering

    def peer_said(self, src: int, frames: list[tuple[int, int, bytes]]) -> None:
        self.said += [(src, body) for kind, _, body in frames if kind == MEMBER]
        self._changed.set()

    def peer_came(self, src: int) -> None:
        self.came.append(src)
        self._changed.set()

    def peer_left(self, src: int) -> None:
        self.left.append(src)
        self._changed.set()

    def peer_gone(self, src: int) -> None:
        self.gone.append(src)
        self._changed.set()

    def peer_out_of_reach(self, src: int) -> None:
        self.unreachable.append(src)
        self._changed.set()


class Door(asyncio.Protocol):
    def __init__(self, side: Side) -> None:
        self._side = side
        self._reader = FrameReader(1 << 20)
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        for kind, _, body in self._reader.feed(data):
            assert kind == PEER_HELLO
            self._side.peers.accept(self._transport, body)
        if self._side.deaf:
            self._transport.pause_reading()


def test_what_is_said_arrives_in_order_both_ways_once_one_side_knows_the_other() -> None:
    async def run() -> None:
        one, two = await Side(1).start(), await Side(2).start()
        one.peers.want({2: two.address})
        await one.until(lambda: one.came == [2])
        await two.until(lambda: two.came == [1])  # it dialled back: the hello told the address

        for number in range(100):
            assert one.peers.send(2, MEMBER, b"%d" % number)
        assert two.peers.send(1, MEMBER, b"back")

        await two.until(lambda: len(two.said) == 100)
        await one.until(lambda: len(one.said) == 1)
        assert two.said == [(1, b"%d" % number) for number in range(100)]
        assert one.said == [(2, b"back")]
        await one.stop()
        await two.stop()

    asyncio.run(run())


def test_a_peer_of_another_cluster_is_told_so_and_not_listened_to() -> None:
    async def run() -> None:
        one, other = await Side(1).start(), await Side(2, cluster="c2").start()

        fault = await _dial_as(one, _hello(2, cluster="c2"))

        assert "c2" in fault.message
        assert "c1" in fault.message
        other.peers.want({1: one.address})
        assert one.came == []
        await one.stop()
        await other.stop()

    asyncio.run(run())


def test_a_peer_of_another_lineage_is_refused() -> None:
    async def run() -> None:
        one = await Side(1).start()

        fault = await _dial_as(one, _hello(2, lineage=8))

        assert "lineage" in fault.message
        await one.stop()

    asyncio.run(run())


def test_who_looks_for_another_node_here_does_not_end_the_connection_that_it_has() -> None:
    async def run() -> None:
        one, two = await Side(1).start(), await Side(2).start()
        two.peers.want({1: one.address})
        await one.until(lambda: one.came == [2])
        await two.until(lambda: two.came == [1])

        two.peers.want({1: one.address, 9: one.address})  # 9 was there before, as two knows
        fault = await _dial_as(one, msgspec.structs.replace(_hello(2), wants=9))
        for number in range(50):
            assert two.peers.send(1, MEMBER, b"%d" % number)
            await asyncio.sleep(0.01)

        assert fault.field == "wants"
        await one.until(lambda: len(one.said) == 50)
        assert one.left == []
        assert two.came == [1]
        await one.stop()
        await two.stop()

    asyncio.run(run())


def test_a_second_process_with_a_node_id_that_is_in_use_is_refused() -> None:
    async def run() -> None:
        one, two = await Side(1).start(), await Side(2).start()
        two.peers.want({1: one.address})
        await two.until(lambda: two.came == [1])

        fault = await _dial_as(one, _hello(2, nonce=99))

        assert "copied" in fault.message
        assert fault.field == "nid"
        await one.stop()
        await two.stop()

    asyncio.run(run())


def test_a_link_comes_back_by_itself_when_its_peer_does() -> None:
    async def run() -> None:
        one, two = await Side(1).start(), await Side(2).start()
        one.peers.want({2: two.address})
        await one.until(lambda: one.came == [2])
        await two.until(lambda: two.came == [1])
        port = two.port

        await two.stop()
        await one.until(lambda: one.left == [2] and one.unreachable == [2])
        await one.until(lambda: one.gone == [2])
        assert not one.peers.send(2, MEMBER, b"nobody there")
        again = await Side(2, nonce=5).start(port)
        await one.until(lambda: one.came == [2, 2])
        assert one.peers.send(2, MEMBER, b"there")
        await again.until(lambda: again.said == [(1, b"there")])
        await one.stop()
        await again.stop()

    asyncio.run(run())


def test_a_peer_that_only_hangs_up_is_not_taken_for_ended() -> None:
    async def run() -> None:
        one, two = await Side(1).start(), await Side(2).start()
        one.peers.want({2: two.address})
        await one.until(lambda: one.came == [2])

        await two.peers.close()
        two.deaf = True
        await one.until(lambda: one.unreachable == [2])
        await asyncio.sleep(0.1)  # nothing must happen

        assert one.gone == []
        await one.stop()
        await two.stop()

    asyncio.run(run())


def test_what_a_peer_does_not_read_is_dropped_beyond_a_bound() -> None:
    async def run() -> None:
        one, two = await Side(1).start(), await Side(2, deaf=True).start()
        one.peers.want({2: two.address})
        await one.until(lambda: one.came == [2])

        taken = 0
        while taken < 64 and one.peers.send(2, MEMBER, bytes(1 << 20)):
            taken += 1
            await asyncio.sleep(0)

        assert taken < 64
        assert taken >= UNSENT_BYTES_MAX >> 20
        assert one.peers.send(2, MEMBER, b"a heartbeat")
        await one.stop()
        await two.stop()

    asyncio.run(run())


def _hello(nid: int, *, cluster: str = "c1", lineage: int = 7, nonce: int = 1) -> PeerHello:
    return PeerHello(PEER_VERSION, cluster, lineage, nid, f"n{nid}", nonce, "")


async def _dial_as(side: Side, hello: PeerHello) -> wire.Fault:
    reader, writer = await asyncio.open_connection("127.0.0.1", side.port)
    writer.write(encode_frame(PEER_HELLO, 0, peer_frames.encode(hello)))
    frames = FrameReader(1 << 20)
    while not (answer := frames.feed(await reader.read(65_536))):
        pass
    writer.close()
    await writer.wait_closed()
    kind, _, body = answer[0]
    assert kind == wire.FAULT
    return wire.decode_fault(body)
