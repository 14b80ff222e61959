"""A node that says what a test tells it to, in true frames over TCP: for what a real node would
not do on demand (fall silent, go, refuse)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from waypost import wire
from waypost.client.addresses import Address
from waypost.commands import Outcome, Register
from waypost.transport.frames import FrameReader, encode_frame

Answer = Callable[["Peer", int, bytes], None]


class Peer:
    """One connection of a client to the scripted node."""

    def __init__(self, node: "ScriptedNode", writer: asyncio.StreamWriter) -> None:
        self.node = node
        self.writer = writer
        self.chunks: list[list[int]] = []
        """The kinds of frames that came together."""

    def send(self, kind: int, frame_id: int, value: object = None) -> None:
        body = b"" if value is None else wire.encode(value)
        self.writer.write(encode_frame(kind, frame_id, body))

    def fault(self, frame_id: int, code: str, message: str = "no", **more: object) -> None:
        self.send(wire.FAULT, frame_id, wire.Fault(code, message, **more))  # type: ignore[arg-type]

    def close(self) -> None:
        self.writer.close()


class ScriptedNode:
    """Welcomes, answers pings and hellos, and leaves the rest to ``answers`` by kind of frame.

    Every frame but PING is put into ``heard`` as ``(kind, id, body)``.
    """

    def __init__(self) -> None:
        self.name = "n1"
        self.cluster = "c1"
        self.members: tuple[str, ...] = ()
        self.leader = ""
        self.revision = 1
        self.ping_ms = 1000
        self.deadline_ms = 5000
        self.answers: dict[int, Answer] = {wire.HELLO: ScriptedNode.welcome}
        self.is_silent = False
        self.peers: list[Peer] = []
        self.pings = asyncio.Semaphore(0)
        """Can be acquired once for each PING."""
        self.heard: asyncio.Queue[tuple[int, int, bytes]] = asyncio.Queue()
        self.address: Address

    @property
    def peer(self) -> Peer:
        """The latest connection."""
        return self.peers[-1]

    async def expect(self, kind: int) -> tuple[int, bytes]:
        """Wait for the next frame of a kind, and return its id and body."""
        while True:
            heard, frame_id, body = await self.heard.get()
            if heard == kind:
                return frame_id, body

    @staticmethod
    def welcome(peer: Peer, frame_id: int, body: bytes) -> None:
        node = peer.node
        peer.send(
            wire.WELCOME,
            frame_id,
            wire.Welcome(
                1,
                node.name,
                node.cluster,
                node.revision,
                node.ping_ms,
                node.deadline_ms,
                node.members,
                node.leader,
            ),
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(self, writer)
        self.peers.append(peer)
        frames = FrameReader(1 << 20)
        try:
            while chunk := await reader.read(1 << 20):
                came = frames.feed(chunk)
                peer.chunks.append([kind for kind, _, _ in came])
                for kind, frame_id, body in came:
                    self._take(peer, kind, frame_id, body)
        except ConnectionError:
            pass
        finally:
            writer.close()

    def _take(self, peer: Peer, kind: int, frame_id: int, body: bytes) -> None:
        if self.is_silent:
            return
        if kind == wire.PING and kind not in self.answers:
            peer.send(wire.PONG, frame_id)
            self.pings.release()
            return
        if kind in self.answers:
            self.answers[kind](peer, frame_id, body)
        self.heard.put_nowait((kind, frame_id, body))


@asynccontextmanager
async def scripted() -> AsyncIterator[ScriptedNode]:
    node = ScriptedNode()
    server = await asyncio.start_server(node.serve, "127.0.0.1", 0)
    node.address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
    node.name = f"n{node.address.port}"
    try:
        yield node
    finally:
        server.close()
        for peer in node.peers:
            peer.close()
        await asyncio.sleep(0)


def registers_all(peer: Peer, frame_id: int, body: bytes) -> None:
    """Answer a WRITE as a node does that refuses nothing."""
    commands = wire.decode_write(body)
    peer.node.revision += 1
    outcomes: list[Outcome] = [7 if isinstance(c, Register) else 0 for c in commands]
    peer.send(wire.OUTCOMES, frame_id, wire.Outcomes(peer.node.revision, outcomes))


def attaches(peer: Peer, frame_id: int, body: bytes) -> None:
    """Answer an ATTACH, or a DETACH, as a node does that does not say what the session holds."""
    peer.send(wire.OUTCOMES, frame_id, wire.Outcomes(peer.node.revision, [1]))


def attaches_holding(*holds: tuple[str, str, int]) -> Answer:
    """Answer an ATTACH as a node does whose registry has these under the session."""

    def answer(peer: Peer, frame_id: int, body: bytes) -> None:
        held = [wire.Holding(*each) for each in holds]
        peer.send(wire.OUTCOMES, frame_id, wire.Attached(peer.node.revision, [1], held))

    return answer
