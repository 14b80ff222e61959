"""What one node dials to one peer, again and again: it is only spoken on.

Always true: what a slow or dead peer makes this node hold is bounded: beyond ``UNSENT_BYTES_MAX``
what is said to it is dropped; what is said in one turn of the event loop leaves in one call of the
transport.
"""

import asyncio
import contextlib
import errno
import logging
from typing import Final, Protocol, cast

import msgspec

from waypost import wire
from waypost.errors import Invalid, ProtocolViolation, WaypostError
from waypost.transport import peer_frames
from waypost.transport.frames import FrameReader, encode_frame
from waypost.transport.peer_frames import PEER_HELLO, PEER_WELCOME, PeerHello

log = logging.getLogger("waypost.peers")

UNSENT_BYTES_MAX: Final = 8 << 20
SMALL_BYTES: Final = 4 << 10
"""What is smaller is still taken up to twice the bound: a heartbeat costs nothing to keep."""
CONNECT_S: Final = 1.0
BACKOFF_MIN_S: Final = 0.02
BACKOFF_MAX_S: Final = 0.5
STOOD_S: Final = 1.0
"""A link that broke sooner is not dialled anew at once."""


class Keeper(Protocol):
    """Who keeps the links."""

    me: PeerHello

    def link_up(self, link: "Link") -> None:
        """A link stands."""
        ...

    def link_down(self, link: "Link") -> None:
        """A link broke."""
        ...

    def link_refused(self, link: "Link") -> None:
        """A link broke, and nothing listens any more where it went."""
        ...

    def draw(self) -> float:
        """Chance, for the jitter."""
        ...


class Link(asyncio.Protocol):
    """What this node dials to one peer, again and again: it is only spoken on."""

    def __init__(self, keeper: Keeper, nid: int, address: str) -> None:
        self.nid = nid
        self.address = address
        self.is_up = False
        self._keeper = keeper
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader(wire.REQUEST_BYTES_MAX)
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._is_flush_due = False
        self._has_spoken = False
        self._hurry = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._welcomed: asyncio.Future[PeerHello] = self._loop.create_future()
        self._lost = asyncio.Event()
        self._why = ""
        self.task = self._loop.create_task(self._keep())

    async def _keep(self) -> None:
        backoff = BACKOFF_MIN_S
        is_missed = False  # since it broke, nobody has said whether the peer is still there
        while True:
            self._hurry.clear()
            try:
                await self._dial()
            except (OSError, TimeoutError, UnicodeError, ValueError, WaypostError) as error:
                self._complain(str(error) or "no answer in time")
                if is_missed and getattr(error, "errno", 0) == errno.ECONNREFUSED:
                    is_missed = False
                    self._keeper.link_refused(self)
            else:
                backoff = BACKOFF_MIN_S
                stood_from = self._loop.time()
                await self._lost.wait()
                self.is_up, is_missed = False, True
                self._keeper.link_down(self)
                if self._loop.time() - stood_from > STOOD_S:
                    self._drop()
                    continue  # at once: a process that has ended is known by its refusal
            self._drop()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), backoff * (0.5 + self._keeper.draw()))
            backoff = min(2 * backoff, BACKOFF_MAX_S)

    async def _dial(self) -> None:
        host, _, port = self.address.rpartition(":")
        self._welcomed = self._loop.create_future()
        self._lost.clear()
        self._reader = FrameReader(wire.REQUEST_BYTES_MAX)
        async with asyncio.timeout(CONNECT_S):
            await self._loop.create_connection(lambda: self, host.strip("[]"), int(port))
            assert self._transport is not None
            said = msgspec.structs.replace(self._keeper.me, wants=self.nid)
            self._transport.write(encode_frame(PEER_HELLO, 0, peer_frames.encode(said)))
            hello = await self._welcomed
        if hello.nid != self.nid:
            raise Invalid(
                f"{self.address} is node {hello.name!r} ({hello.nid:08x}) now", field="nid"
            )
        self._why = ""
        self.is_up = True
        self._keeper.link_up(self)

    def _complain(self, why: str) -> None:
        if why != self._why:
            self._why = why
            log.info("cannot reach peer %08x at %s: %s", self.nid, self.address, why)

    def hurry(self) -> None:
        """The peer is there: do not wait to dial it."""
        self._hurry.set()

    def send(self, kind: int, body: bytes) -> bool:
        """Say something, or drop it."""
        transport = self._transport
        if transport is None or not self.is_up:
            return False
        unsent = self._outbox_bytes + transport.get_write_buffer_size()
        if unsent > (2 * UNSENT_BYTES_MAX if len(body) <= SMALL_BYTES else UNSENT_BYTES_MAX):
            return False
        frame = encode_frame(kind, 0, body)
        self._outbox.append(frame)
        self._outbox_bytes += len(frame)
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self.flush)
        return True

    def flush(self) -> None:
        """Hand everything that was said to the transport, in one call."""
        self._is_flush_due = False
        if self._outbox and self._transport is not None:
            self._has_spoken = True
            self._transport.writelines(self._outbox)
        self._outbox = []
        self._outbox_bytes = 0

    def ping(self) -> None:
        """Let the peer hear something, if nothing else did."""
        if self.is_up and not self._has_spoken:
            self.send(peer_frames.PEER_PING, b"")
        self._has_spoken = False

    def abort(self) -> None:
        """Dial anew."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Dial no more."""
        self.is_up = False
        self.task.cancel()
        if self._transport is not None:
            self._transport.close()

    def _drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._outbox = []
        self._outbox_bytes = 0

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP is connected."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """The peer answers the hello, and says no more after that."""
        try:
            for kind, _, body in self._reader.feed(data):
                if kind == PEER_WELCOME and not self._welcomed.done():
                    self._welcomed.set_result(peer_frames.decode_peer_hello(body))
                elif kind == wire.FAULT and not self._welcomed.done():
                    fault = wire.decode_fault(body)
                    self._welcomed.set_exception(Invalid(fault.message, field=fault.field))
        except (ProtocolViolation, msgspec.MsgspecError, UnicodeDecodeError):
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._transport = None
        self.is_up = False
        if not self._welcomed.done() and not self.task.done():
            self._welcomed.set_exception(exc or ConnectionResetError("closed by the peer"))
        self._lost.set()
