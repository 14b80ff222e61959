"""One TCP connection to one node of the registry: frames out, answers and events in.

Everything that is said in one turn of the event loop travels in one call of the transport.  Answers
are matched by id, in whatever order they come.

Always true: every request that was made is answered, by the node or, when the connection ends, by
``Unavailable`` (a write may outlive the connection, and is for ``writing`` to answer); what is
asked at a time is bounded by ``UNDER_WAY_MAX``; each side lets the other hear from it every
``ping_ms``, and one that heard nothing for ``deadline_ms`` ends the connection, so that a half-open
connection cannot last.  ``on_silent`` is told well before that: another node may answer meanwhile.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from importlib.metadata import version
from typing import Final, cast

import msgspec

from waypost import wire
from waypost.client.addresses import Address
from waypost.client.forks import leave_in_children
from waypost.client.identity import Identity
from waypost.errors import (
    ERRORS_BY_CODE,
    Invalid,
    Overloaded,
    ProtocolViolation,
    Unavailable,
    WaypostError,
)
from waypost.transport.frames import FrameReader, encode_frame

UNDER_WAY_MAX: Final = 1024
SILENT_PINGS: Final = 2
"""A node of which nothing was heard for so many times ``ping_ms`` owes the answer to a ping."""
_AGENT: Final = f"waypost-python/{version('waypost')}"
_EVENTS: Final = frozenset((wire.SNAPSHOT, wire.CHANGES, wire.BOOKMARK))

Told = Callable[[int, int, bytes], None]
"""Takes an event of a watch: its kind, the watch's id, and its body."""


OnWritten = Callable[["Connection", int, int, bytes], None]
"""Takes an answer to a write: where it came, its kind, its id, and its body."""


class Connection(asyncio.Protocol):
    """The client's side of one connection; made by ``open_connection``."""

    def __init__(self, address: Address, identity: Identity) -> None:
        loop = asyncio.get_running_loop()
        self.address = address
        self.welcome: wire.Welcome
        self.on_event: Told = _ignore
        self.on_written: OnWritten = _nobodys
        self.on_going: Callable[[], None] = _nothing
        self.on_silent: Callable[[], None] = _nothing
        self.is_told_to_go = False
        self.on_moved: Callable[[], None] = _nothing
        self.next_id = identity.next_id
        self.closed: asyncio.Future[str] = loop.create_future()
        """Done when the connection has ended; its result says why."""
        self.opened_at = self.heard_at = self._said_at = loop.time()
        """On the event loop's clock, in seconds."""
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader(wire.ANSWER_BYTES_MAX)
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self._written: set[int] = set()
        self._outbox: list[bytes] = []
        self._is_flush_due = False
        self._slots = asyncio.Semaphore(UNDER_WAY_MAX)
        self._can_send = asyncio.Event()
        self._can_send.set()
        self._watchman: asyncio.TimerHandle | None = None
        self._is_retiring = False
        self._why = ""

    # Asking

    async def ask(self, kind: int, body: bytes = b"") -> bytes:
        """Send a request and return the body of its answer, or raise the fault's error."""
        async with self._slots:
            await self._can_send.wait()
            return await self.request(kind, body)

    async def fence(self) -> None:
        """Return when all that the node had said before now has been taken in."""
        await self.ask(wire.PING)

    def request(self, kind: int, body: bytes = b"") -> "asyncio.Future[bytes]":
        """Send a request, whatever else is under way; the future is its answer's body."""
        future: asyncio.Future[bytes] = self._loop.create_future()
        if not self.is_open:
            future.set_exception(self._gone())
            return future
        request_id = self.next_id()
        self._asked[request_id] = future
        future.add_done_callback(lambda _: self._asked.pop(request_id, None))
        self.say(kind, request_id, body)
        return future

    def say_write(self, write_id: int, body: bytes) -> None:
        """Send a write; ``on_written`` is told its answer, if it comes over this connection."""
        if self.is_open:
            self._written.add(write_id)
            self.say(wire.WRITE, write_id, body)

    def say(self, kind: int, frame_id: int, body: bytes = b"") -> None:
        """Send a frame that wants no answer; does nothing when the connection has ended."""
        if self.is_open:
            self._outbox.append(encode_frame(kind, frame_id, body))
            self._flush_soon()

    # Ending

    @property
    def is_open(self) -> bool:
        """Whether it can still be used."""
        return self._transport is not None and not self._why

    @property
    def is_silent(self) -> bool:
        """Whether the node should have been heard by now."""
        silent_s = self._loop.time() - self.heard_at
        return silent_s >= SILENT_PINGS * self.welcome.ping_ms / 1000

    @property
    def local_host(self) -> str:
        """The address of this process on this connection."""
        assert self._transport is not None
        return str(self._transport.get_extra_info("sockname")[0])

    def close(self, why: str = "closed by this client") -> None:
        """End it, after what has been said already."""
        if self.is_open:
            assert self._transport is not None
            self._flush()
            self._why = why
            self._transport.close()

    def abort(self, why: str) -> None:
        """End it at once."""
        if self._transport is not None:
            self._why = self._why or why
            self._transport.abort()

    def drop_in_child(self, null: int) -> None:
        """Let go of the socket in a forked child, without a word to the node."""
        if self._transport is not None:
            os.dup2(null, self._transport.get_extra_info("socket").fileno(), inheritable=False)
            self._why = "inherited by a forked process, which must open its own"

    def retire(self, within_s: float) -> None:
        """End it once all answers that are owed have come, or the time is up."""
        self._is_retiring = True
        self._loop.call_later(within_s, self.close, "another node took over")
        self._close_if_retired()

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP is connected."""
        self._transport = cast("asyncio.Transport", transport)
        leave_in_children(self)

    def data_received(self, data: bytes) -> None:
        """Bytes came: take every frame that is whole."""
        self.heard_at = self._loop.time()
        try:
            for frame in self._reader.feed(data):
                self._take(*frame)
        except (ProtocolViolation, msgspec.MsgspecError, UnicodeDecodeError) as error:
            self.abort(f"it does not speak the protocol: {error}")

    def pause_writing(self) -> None:
        """The node reads more slowly than it is written to."""
        self._can_send.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._can_send.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over: whoever waits hears of it."""
        self._why = self._why or (f"connection lost: {exc}" if exc else "closed by the registry")
        self._transport = None
        if self._watchman is not None:
            self._watchman.cancel()
        self._can_send.set()
        self._written.clear()
        for future in list(self._asked.values()):
            if not future.done():
                future.set_exception(self._gone())
        if not self.closed.done():
            self.closed.set_result(self._why)

    # In

    def _take(self, kind: int, frame_id: int, body: bytes) -> None:
        if kind in _EVENTS:
            self.on_event(kind, frame_id, body)
        elif kind == wire.OUTCOMES and frame_id in self._written:
            self._written.discard(frame_id)
            self.on_written(self, kind, frame_id, body)
            self._close_if_retired()
        elif kind == wire.PING:
            self.say(wire.PONG, frame_id, body)
        elif kind == wire.GOING:
            self.is_told_to_go = True
            self.on_going()
        elif kind == wire.MOVED:
            self.on_moved()
        elif kind == wire.FAULT:
            self._fault(frame_id, body)
        else:
            future = self._asked.get(frame_id)
            if future is not None and not future.done():
                future.set_result(body)
            self._close_if_retired()

    def _fault(self, frame_id: int, body: bytes) -> None:
        error = error_of(wire.decode_fault(body))
        future = self._asked.get(frame_id)
        if future is not None:
            if not future.done():
                future.set_exception(error)
        elif frame_id in self._written:
            self._written.discard(frame_id)
            self.on_written(self, wire.FAULT, frame_id, body)
        elif frame_id == 0:
            self.abort(f"closed by the registry: {error.message}")
        else:
            self.on_event(wire.FAULT, frame_id, body)
        self._close_if_retired()

    # Out

    def _flush_soon(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        if self._outbox and self._transport is not None:
            self._said_at = self._loop.time()
            self._transport.write(b"".join(self._outbox))
        self._outbox.clear()

    # Liveness

    def keep_alive(self) -> None:
        """Ping and be pinged from now on, as the welcome says."""
        ping_s = self.welcome.ping_ms / 1000
        now = self._loop.time()
        silent_s = now - self.heard_at
        if silent_s >= self.welcome.deadline_ms / 1000:
            self.abort(f"nothing heard for {silent_s:.1f} s")
            return
        if self.is_silent:
            self.on_silent()
        if silent_s >= ping_s or now - self._said_at >= ping_s:
            self.say(wire.PING, 0)
        self._watchman = self._loop.call_later(ping_s / 2, self.keep_alive)

    # Ending, continued

    def _close_if_retired(self) -> None:
        is_owed = not all(future.done() for future in self._asked.values())
        if self._is_retiring and not (is_owed or self._written):
            self.close("another node took over")

    def _gone(self) -> Unavailable:
        return Unavailable(f"{self.address}: {self._why or 'not connected'}")


async def open_connection(address: Address, timeout_s: float, identity: Identity) -> Connection:
    """Connect and be welcomed, or raise ``Unavailable``, or what the node refuses with."""
    loop = asyncio.get_running_loop()
    connection = Connection(address, identity)
    try:
        async with asyncio.timeout(timeout_s):
            await loop.create_connection(lambda: connection, address.host, address.port)
            hello = wire.Hello(wire.PROTOCOL_VERSION, _AGENT, identity.client)
            body = await connection.request(wire.HELLO, wire.encode(hello))
        connection.welcome = wire.decode_welcome(body)
    except TimeoutError:
        what = "connected, but not welcomed" if connection.is_open else "no answer"
        connection.abort(f"{what} within {timeout_s:g} s")
        raise Unavailable(f"{what} within {timeout_s:g} s") from None
    except OSError as error:
        raise Unavailable(_why(error)) from error
    except UnicodeError as error:
        raise Unavailable(f"not a host name: {error}") from error
    except msgspec.MsgspecError as error:
        connection.abort(f"its welcome cannot be read: {error}")
        raise Unavailable(f"its welcome cannot be read: {error}") from error
    except BaseException:
        connection.abort("given up")
        raise
    connection.keep_alive()
    return connection


def error_of(fault: wire.Fault) -> WaypostError:
    """The error that a fault stands for; one without a name here is a plain ``WaypostError``."""
    kind = ERRORS_BY_CODE.get(fault.code)
    if kind is None:
        return WaypostError(f"{fault.message} ({fault.code})")
    if kind is Invalid:
        return Invalid(fault.message, field=fault.field)
    if kind is Overloaded:
        return Overloaded(fault.message, retry_after=fault.retry_after)
    return kind(fault.message)


def _why(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or error.errno is None:
        return (error.strerror or str(error)).lower()
    return os.strerror(error.errno).lower()  # asyncio's own words repeat the address


def _ignore(kind: int, frame_id: int, body: bytes) -> None:
    """Take an event that nobody asked for."""


def _nobodys(connection: Connection, kind: int, write_id: int, body: bytes) -> None:
    """Take an answer to a write that nobody waits for any more."""


def _nothing() -> None:
    """Do nothing."""
