"""A connection that is cut in the middle, unnoticed: what a hung process looks like from both ends.

The client's end goes on against a void that answers its pings and says yes to all that it writes,
so that it does nothing about it, as a process that hangs does nothing.  (It would connect anew
otherwise, and be back.)  The registry's end goes on over a transport that leads nowhere: nothing is
heard of the client any more, and what it is told is lost.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from waypost import wire
from waypost.errors import ProtocolViolation
from waypost.servers.native.connection import NativeConnection
from waypost.transport.frames import FrameReader, encode_frame


class Cut:
    """One connection, cut."""

    def __init__(self, connection: NativeConnection, revision: Callable[[], int]) -> None:
        transport = connection.transport
        assert transport is not None, "a connection that is gone cannot be cut"
        self._transport = transport
        self._nowhere = _Nowhere(connection)
        connection.transport = self._nowhere
        transport.set_protocol(_Void(transport, revision))
        transport.resume_reading()

    def break_off(self) -> None:
        """Let the registry find the connection closed."""
        self._nowhere.abort()

    def end(self) -> None:
        """Let both ends find it closed: the client comes back if it can."""
        self._nowhere.abort()
        self._transport.abort()


class _Void(asyncio.Protocol):
    """Contents a client, and does nothing of what it says.

    Its answers are of the registry's revision: to older ones a client gives no credit.
    """

    def __init__(self, transport: asyncio.Transport, revision: Callable[[], int]) -> None:
        self._transport = transport
        self._revision = revision
        self._reader: FrameReader | None = FrameReader(wire.REQUEST_BYTES_MAX)

    def data_received(self, data: bytes) -> None:
        if self._reader is None:
            return
        try:
            for frame in self._reader.feed(data):
                self._content(*frame)
        except (ProtocolViolation, msgspec.MsgspecError):  # it was cut within a frame
            self._reader = None

    def _content(self, kind: int, frame_id: int, body: bytes) -> None:
        if kind == wire.PING:
            self._transport.write(encode_frame(wire.PONG, frame_id))
        elif kind in (wire.WRITE, wire.ATTACH, wire.DETACH):
            commands = len(wire.decode_write(body)) if kind == wire.WRITE else 1
            outcomes = wire.encode(wire.Outcomes(self._revision(), [0] * commands))
            self._transport.write(encode_frame(wire.OUTCOMES, frame_id, outcomes))


class _Nowhere(asyncio.Transport):
    """Takes everything, and brings nothing anywhere."""

    def __init__(self, connection: NativeConnection) -> None:
        super().__init__()
        self._connection = connection
        self._is_closed = False

    def write(self, data: Any) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            asyncio.get_running_loop().call_soon(self._connection.connection_lost, None)

    def abort(self) -> None:
        self.close()
