"""The other side of a native connection, as a test plays it: frame by frame."""

import asyncio
import socket
from typing import Any

from waypost import wire
from waypost.commands import ClientCommand, Outcome, Refused, Register
from waypost.model import Instance
from waypost.transport.frames import Frame, FrameReader, encode_frame

PATIENCE_S = 10


class Peer:
    """One connection.  Nothing is read or answered but by the test, unless it is ``polite``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = FrameReader(wire.ANSWER_BYTES_MAX)
        self._whole: list[Frame] = []
        self._last_id = 100
        self.is_polite = False
        """Whether it answers pings by itself, whenever it is listening."""

    @classmethod
    async def connect(cls, address: tuple[str, int], receive_bytes: int) -> "Peer":
        sock = socket.socket()
        sock.setblocking(False)
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        try:
            await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return cls(*await asyncio.open_connection(sock=sock, limit=receive_bytes or 1 << 16))

    # Saying

    def raw(self, *chunks: bytes) -> None:
        self._writer.write(b"".join(chunks))

    def say(self, kind: int, frame_id: int, body: object = None) -> None:
        self.raw(encode_frame(kind, frame_id, b"" if body is None else wire.encode(body)))

    async def hello(self, client: str = "") -> wire.Welcome:
        self.say(wire.HELLO, 1, wire.Hello(1, "a test", client))
        return wire.decode_welcome(await self.hear(wire.WELCOME, 1))

    def ask(self, kind: int, body: object = None) -> int:
        self._last_id += 1
        self.say(kind, self._last_id, body)
        return self._last_id

    async def write(self, *commands: ClientCommand) -> wire.Outcomes:
        asked = self.ask(wire.WRITE, list(commands))
        return wire.decode_outcomes(await self.hear(wire.OUTCOMES, asked))

    async def register(self, service: str, instance_id: str, session: str = "", **more: Any) -> int:
        """Register, and return the incarnation."""
        instance = Instance(service, instance_id, "10.0.0.1", 8080, **more)
        return number((await self.write(Register(instance, session))).outcomes[0])

    async def attach(self, session: str, *, ttl_ms: int = 9_000, grace_ms: int = 2_000) -> int:
        """Attach a session, and return its attachment."""
        asked = self.ask(wire.ATTACH, wire.AttachSession(session, ttl_ms, grace_ms))
        return number(wire.decode_outcomes(await self.hear(wire.OUTCOMES, asked)).outcomes[0])

    async def resolve(self, service: str) -> wire.Resolved:
        asked = self.ask(wire.RESOLVE, wire.Resolve(service))
        return wire.decode_resolved(await self.hear(wire.RESOLVED, asked))

    async def fence(self) -> list[Frame]:
        """Return what the node had said before it took what was said until now."""
        asked = self.ask(wire.PING)
        before: list[Frame] = []
        while (frame := await self.frame())[:2] != (wire.PONG, asked):
            before.append(frame)
        return before

    # Hearing

    async def frame(self) -> Frame:
        """The next frame.  ``EOFError`` when the node has closed."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                while not self._whole:
                    chunk = await self._reader.read(1 << 20)
                    if not chunk:
                        raise EOFError
                    self._whole = self._frames.feed(chunk)
                kind, frame_id, body = self._whole.pop(0)
                if kind != wire.PING or not self.is_polite:
                    return kind, frame_id, body
                self.say(wire.PONG, frame_id)

    async def some_bytes(self) -> bytes:
        """Read a little, and look at none of it."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._reader.read(1 << 16)

    async def hear(self, kind: int, frame_id: int) -> bytes:
        """The body of the next frame, which must be this one."""
        heard, heard_id, body = await self.frame()
        shown = wire.decode_fault(body) if heard == wire.FAULT else body[:200]
        assert (heard, heard_id) == (kind, frame_id), f"heard {heard} {heard_id}: {shown!r}"
        return body

    async def fault(self, frame_id: int) -> wire.Fault:
        return wire.decode_fault(await self.hear(wire.FAULT, frame_id))

    async def hears_the_end(self) -> bool:
        """Whether the node closes without another word."""
        try:
            await self.frame()
        except EOFError:
            return True
        return False

    # Going

    def close(self) -> None:
        """Close, as a process does that ends."""
        self._writer.close()

    def abort(self) -> None:
        self._writer.transport.abort()


def number(outcome: Outcome) -> int:
    assert not isinstance(outcome, Refused), outcome.message
    return outcome


def refusal(outcomes: wire.Outcomes) -> Refused:
    (outcome,) = outcomes.outcomes
    assert isinstance(outcome, Refused), outcome
    return outcome
