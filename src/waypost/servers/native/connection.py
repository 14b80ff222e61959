"""The server's side of one native connection: bytes in, frames out, and signs of life.

What the frames ask is for ``conversation``.

Always true: of a client that does not read its answers, or that has too many writes under way, not
one frame more is taken, so what it can make this node hold is bounded; what it sent in the meantime
is not held against it as silence.
"""

import asyncio
import logging
from typing import Final, Protocol, cast

from waypost import wire
from waypost.errors import ProtocolViolation, WaypostError
from waypost.node.node import Node
from waypost.node.registry import Registry
from waypost.servers.native.conversation import Conversation
from waypost.transport.frames import Frame, FrameReader, encode_frame
from waypost.transport.peer_frames import GENESIS, GENESIS_TOLD, PEER_HELLO

log = logging.getLogger("waypost.native")

SILENT_MS: Final = 2_000
"""A client that was silent for longer is pinged."""
LINGER_S: Final = 1.0
"""How long a client may take to read why it is hung up on."""
WRITES_UNDER_WAY_MAX: Final = 1_024


class Door(Protocol):
    """Who counts the connections."""

    def entered(self, connection: "NativeConnection") -> None:
        """It is open."""
        ...

    def left(self, connection: "NativeConnection") -> None:
        """It is gone."""
        ...


class NativeConnection(asyncio.Protocol):
    """One connection, from accept to close."""

    __slots__ = (
        "_conversation",
        "_door",
        "_held_back",
        "_is_leaving",
        "_is_open",
        "_is_reading",
        "_is_resuming",
        "_node",
        "_reader",
        "_under_way",
        "_unsent",
        "echoed",
        "heard_ns",
        "is_slow",
        "transport",
    )

    def __init__(self, node: Node, registry: Registry, door: "Door") -> None:
        self._node = node
        self._door = door
        self._reader = FrameReader(wire.REQUEST_BYTES_MAX)
        self._conversation = Conversation(self, node, registry)
        self._held_back: list[Frame] = []
        """Frames that came while nothing was taken, in order."""
        self._under_way = 0
        self._is_open = False
        self._is_leaving = False
        self._is_reading = True
        self._is_resuming = False
        self._unsent = 0
        self.transport: asyncio.Transport | None = None
        self.is_slow = False
        self.heard_ns = node.clock()
        self.echoed = 0
        """The id of the last ping that it answered, of those that had one."""

    @property
    def conversation(self) -> Conversation:
        """What has been said."""
        return self._conversation

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self.transport = cast("asyncio.Transport", transport)
        self._is_open = True
        self._door.entered(self)
        self._node.connections += 1

    def data_received(self, data: bytes) -> None:
        """Bytes came: take every frame that is whole."""
        if not self._is_open:
            return  # hung up on: what it still says is not listened to
        self.heard_ns = self._node.clock()
        try:
            frames = self._reader.feed(data)
        except ProtocolViolation as violation:
            self.hang_up(violation)
            return
        if self._is_reading:
            self._take(frames)
        else:
            self._held_back += frames

    def pause_writing(self) -> None:
        """The client does not read what it is sent."""
        self.is_slow = True
        self._reconsider_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        self.is_slow = False
        self._reconsider_reading()
        self._conversation.catch_up()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """It is gone: whoever it kept alive has its grace now."""
        self._is_open = False
        self.transport = None
        self._held_back.clear()
        self._door.left(self)
        self._node.connections -= 1
        self._conversation.end(is_node_leaving=self._is_leaving)

    # Taking what came

    def _take(self, frames: list[Frame]) -> None:
        if not self._conversation.has_greeted and self._is_of_a_node(frames):
            return
        coming = iter(frames)
        take = self._conversation.take
        try:
            for kind, frame_id, body in coming:
                take(kind, frame_id, body)
                if not self._is_reading:
                    self._held_back.extend(coming)
        except ProtocolViolation as violation:
            self.hang_up(violation)

    def _is_of_a_node(self, frames: list[Frame]) -> bool:
        """Whether this is no client but another node: then it is not ours any more."""
        door, transport = self._node.others, self.transport
        if not frames or door is None or transport is None:
            return False
        kind, frame_id, body = frames[0]
        if kind == PEER_HELLO:
            self._is_open = False
            self.transport = None
            self._door.left(self)
            self._node.connections -= 1
            door.accept(transport, body)
            return True
        if kind == GENESIS:
            self.send(GENESIS_TOLD, frame_id, door.genesis(body))
            return True
        return False

    @property
    def _is_choked(self) -> bool:
        return self.is_slow or self._under_way > WRITES_UNDER_WAY_MAX

    def _reconsider_reading(self) -> None:
        if self._is_choked:
            if self._is_reading and self.transport is not None:
                self._is_reading = False
                self.transport.pause_reading()
        elif not self._is_reading and not self._is_resuming:
            # Not at once: an entry may be half answered, and no frame is taken before it is whole.
            self._is_resuming = True
            asyncio.get_running_loop().call_soon(self._resume)

    def _resume(self) -> None:
        self._is_resuming = False
        if self.transport is None or self._is_choked:
            return
        self._is_reading = True
        self.transport.resume_reading()
        frames, self._held_back = self._held_back, []
        self._take(frames)

    def write_began(self) -> None:
        """A write is on its way to the log."""
        self._under_way += 1
        if self._under_way > WRITES_UNDER_WAY_MAX:
            self._reconsider_reading()

    def write_ended(self) -> None:
        """It has been answered."""
        self._under_way -= 1
        assert self._under_way >= 0, "a write was answered twice"
        if not self._is_reading:
            self._reconsider_reading()

    # Signs of life

    def ping(self, ping_id: int = 0) -> None:
        """Ask the client to say something."""
        self._excuse()
        if self._conversation.has_greeted:
            self.send(wire.PING, ping_id)

    def look(self) -> None:
        """Ping it if it is silent, and drop it if it is half-open.

        Who holds a session is not dropped: its lease decides.
        """
        self._excuse()
        silent_ns = self._node.clock() - self.heard_ns
        if silent_ns > wire.DEADLINE_MS * 1_000_000 and not self._conversation.session:
            log.info("closing a connection that was silent for %.1f s", silent_ns / 1e9)
            self.abort()
        elif silent_ns > SILENT_MS * 1_000_000:
            self.ping()

    def _excuse(self) -> None:
        """Count other signs of life while what it says lies unread by our own choice."""
        if self._is_reading or self.transport is None:
            return
        unsent = self.transport.get_write_buffer_size()
        if not self.is_slow or unsent < self._unsent:
            self.heard_ns = self._node.clock()
        self._unsent = unsent

    def session_moved(self) -> None:
        """Another connection holds its session now."""
        self._conversation.session_moved()

    def session_expired(self) -> None:
        """Its session was silent for a whole lease."""
        self._conversation.session_expired()

    # Out

    def send(self, kind: int, frame_id: int, body: bytes = b"") -> None:
        """Write one frame, unless the connection is over."""
        transport = self.transport
        if transport is not None and self._is_open:
            transport.write(encode_frame(kind, frame_id, body))

    def fault(self, frame_id: int, error: WaypostError) -> None:
        """Say why a request failed, or with an id of 0 why the connection ends."""
        fault = wire.Fault(
            error.code,
            error.message,
            getattr(error, "field", ""),
            getattr(error, "retry_after", 0.0),
        )
        self.send(wire.FAULT, frame_id, wire.encode(fault))

    def hang_up(self, why: WaypostError) -> None:
        """Say why, and listen no more.

        Only this side is shut: closing it whole while the client still sends would reset the
        connection, and the client might never read why (RFC 9112, section 9.6).
        """
        transport = self.transport
        if not self._is_open or transport is None:
            return
        self.fault(0, why)
        self._is_open = False
        self._held_back.clear()
        try:
            transport.write_eof()
        except (OSError, NotImplementedError):  # it is broken already; TLS cannot shut one side
            transport.close()
        else:
            asyncio.get_running_loop().call_later(LINGER_S, transport.abort)

    def going(self, *, is_stopping: bool) -> None:
        """Tell the client to move.  If the node stops, its sessions have done nothing wrong."""
        self._is_leaving = is_stopping
        self.send(wire.GOING, 0)

    def close(self) -> None:
        """Close the connection, after what is buffered."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Drop the connection and what is buffered for it."""
        if self.transport is not None:
            self.transport.abort()
