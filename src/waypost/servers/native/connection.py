"""One native connection: frames in, verbs called, answers out.

The hot path is ``data_received`` → ``_write`` → ``Node.offer``, and back by ``answered``: the bytes
of a write go into the log as they came, and no future, task or dict is made for it.

Always true: every request gets exactly one answer, ``Fault`` included; nothing of a faulty write is
proposed; a reader that does not read stops being read from.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final, cast

import msgspec

from waypost import wire
from waypost.commands import ClientCommand, Command, Deregister, Outcome, Refused, Register, SetHealth
from waypost.errors import Invalid, Overloaded, ProtocolViolation, WaypostError
from waypost.model import (
    Record,
    check_id,
    check_instance,
    check_service,
    check_ttl,
    check_why,
)
from waypost.node.node import Node
from waypost.node.registry import Registry
from waypost.node.watches import ALL, Burst, Watcher
from waypost.transport.frames import FrameReader, encode_frame

log = logging.getLogger("waypost.native")

PING_MS: Final = 1_000
DEADLINE_MS: Final = 5_000
SESSION_CHARS_MAX: Final = 64
WRITES_UNDER_WAY_MAX: Final = 1_024
TASKS_MAX: Final = 256
DRAIN_MS_MAX: Final = 600_000


class NativeConnection(asyncio.Protocol):
    """The server's side of one connection."""

    def __init__(
        self, node: Node, registry: Registry, connections: "set[NativeConnection]"
    ) -> None:
        self._node = node
        self._registry = registry
        self._connections = connections
        self._reader = FrameReader(wire.REQUEST_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._session = ""
        self._attaching: dict[int, wire.AttachSession] = {}
        self._detaching: dict[int, str] = {}
        self._has_greeted = False
        self._watches: dict[int, _NativeWatch] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._is_reading = True
        self.is_slow = False
        self.agent = ""
        self.heard_ns = node.clock()
        self.opened_ns = self.heard_ns

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        self._node.connections += 1

    def data_received(self, data: bytes) -> None:
        """Bytes came: take every frame that is whole."""
        self.heard_ns = self._node.clock()
        try:
            for kind, frame_id, body in self._reader.feed(data):
                if kind == wire.WRITE and self._has_greeted:
                    self._write(frame_id, body)
                else:
                    self._request(kind, frame_id, body)
        except ProtocolViolation as violation:
            self._fault(0, violation)
            self.close()

    def pause_writing(self) -> None:
        """The client does not read what it is sent."""
        self.is_slow = True
        self._reconsider_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        self.is_slow = False
        self._reconsider_reading()
        for watch in list(self._watches.values()):
            if self.is_slow:
                break
            self._node.watches.catch_up(watch.watcher)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        """It is gone: whoever it kept alive has its grace now."""
        self._connections.discard(self)
        self._node.connections -= 1
        for watch in self._watches.values():
            self._node.watches.end(watch.watcher)
        self._watches.clear()
        for task in self._tasks:
            task.cancel()
        if self._session:
            self._node.sessions.disconnected(self, self._session, self._node.clock())
        self._transport = None

    # The path of a write

    def _write(self, frame_id: int, body: bytes) -> None:
        try:
            commands = wire.decode_write(body)
            self._check(commands)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self._fault(frame_id, _invalid(error))
        except WaypostError as error:
            self._fault(frame_id, error)
        else:
            self._write_began()
            self._node.offer(body, cast(list[Command], commands), self, frame_id)

    def answered(self, ticket: int, revision: int, outcomes: list[Outcome]) -> None:
        """A write of this connection was committed."""
        self._write_ended()
        if self._attaching and ticket in self._attaching:
            self._attached(self._attaching.pop(ticket), outcomes[0])
        elif self._detaching and ticket in self._detaching:
            self._detached(self._detaching.pop(ticket))
        if self._transport is not None:
            body = wire.encode(wire.Outcomes(revision, outcomes))
            self._transport.write(encode_frame(wire.OUTCOMES, ticket, body))

    def failed(self, ticket: int, error: WaypostError) -> None:
        """A write of this connection was refused whole, or its fate is unknown."""
        self._write_ended()
        self._attaching.pop(ticket, None)
        self._detaching.pop(ticket, None)
        self._fault(ticket, error)

    def _check(self, commands: list[ClientCommand]) -> None:
        if not 0 < len(commands) <= wire.COMMANDS_PER_WRITE_MAX:
            raise Invalid(
                f"commands: a write of {len(commands)}; send 1 to {wire.COMMANDS_PER_WRITE_MAX} "
                "in one frame",
                field="commands",
            )
        is_registering = False
        for command in commands:
            match command:
                case Register():
                    is_registering = True
                    check_instance(command.instance)
                    if command.why:
                        check_why(command.why)
                    if command.session != self._session and command.session:
                        raise Invalid(
                            f"session: {command.session!r} is not attached to this connection: "
                            "attach it first",
                            field="session",
                        )
                case SetHealth():
                    is_registering = True
                    check_service(command.service)
                    check_why(command.why)
                case Deregister():
                    check_service(command.service)
        self._node.admit("register" if is_registering else "deregister")

    # Everything else

    def _request(self, kind: int, frame_id: int, body: bytes) -> None:
        if not self._has_greeted and kind != wire.HELLO:
            raise ProtocolViolation("the first frame must be HELLO: send it, then ask")
        try:
            match kind:
                case wire.RESOLVE:
                    self._resolve(frame_id, wire.decode_resolve(body))
                case wire.PING:
                    self.send(wire.PONG, frame_id)
                case wire.PONG:
                    pass  # hearing it was the point
                case wire.SEEN:
                    self._seen(frame_id, wire.decode_number(body))
                case wire.HELLO:
                    self._hello(frame_id, wire.decode_hello(body))
                case wire.ATTACH:
                    self._attach(frame_id, wire.decode_attach(body))
                case wire.DETACH:
                    self._detach(frame_id, wire.decode_text(body))
                case wire.LIST:
                    self.send(wire.SERVICES, frame_id, wire.encode(self._registry.services()))
                case wire.WATCH:
                    self._watch(frame_id, wire.decode_watch(body))
                case wire.UNWATCH:
                    self._unwatch(frame_id)
                case wire.DRAIN:
                    self._later(frame_id, self._drain(frame_id, wire.decode_drain(body)))
                case wire.VERIFY:
                    self._later(frame_id, self._verify(frame_id, wire.decode_verify(body)))
                case wire.STATUS:
                    self.send(wire.STATE, frame_id, wire.encode(self._registry.status()))
                case _:
                    raise Invalid(
                        f"kind: {kind} is not a request of protocol version "
                        f"{wire.PROTOCOL_VERSION}: see docs/protocol.md",
                        field="kind",
                    )
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self._fault(frame_id, _invalid(error))
        except ProtocolViolation:
            raise
        except WaypostError as error:
            self._fault(frame_id, error)

    def _hello(self, frame_id: int, hello: wire.Hello) -> None:
        if hello.version < 1:
            raise ProtocolViolation(
                f"version: {hello.version} is not a protocol version: this node speaks 1 to "
                f"{wire.PROTOCOL_VERSION}"
            )
        self._has_greeted = True
        self.agent = hello.agent[:128]
        welcome = wire.Welcome(
            min(hello.version, wire.PROTOCOL_VERSION),
            self._node.name,
            self._node.cluster,
            self._node.revision,
            PING_MS,
            DEADLINE_MS,
        )
        self.send(wire.WELCOME, frame_id, wire.encode(welcome))

    def _attach(self, frame_id: int, attach: wire.AttachSession) -> None:
        check_ttl(attach.ttl_ms)
        if attach.ttl_ms == 0 or not 0 <= attach.grace_ms <= attach.ttl_ms:
            raise Invalid(
                f"grace: {attach.grace_ms} ms with a ttl of {attach.ttl_ms} ms: a session needs a "
                "ttl, and a grace of 0 to that ttl",
                field="grace",
            )
        if not 0 < len(attach.session) <= SESSION_CHARS_MAX or ":" in attach.session:
            raise Invalid(
                f"session: give 1 to {SESSION_CHARS_MAX} characters without ':', at random",
                field="session",
            )
        if self._session not in ("", attach.session) or self._attaching:
            raise Invalid(
                "session: this connection has one already: open another connection, or detach it",
                field="session",
            )
        self._node.admit("register")
        self._attaching[frame_id] = attach
        self._write_began()
        self._node.attach(attach.session, attach.ttl_ms, attach.grace_ms, self, frame_id)

    def _attached(self, attach: wire.AttachSession, outcome: Outcome) -> None:
        if isinstance(outcome, Refused):
            return
        self._session = attach.session
        self._node.own_session(
            attach.session, outcome, attach.ttl_ms, attach.grace_ms, self
        )
        if self._transport is None:  # it broke before the log had answered
            self._node.sessions.disconnected(self, attach.session, self._node.clock())

    def _detach(self, frame_id: int, session: str) -> None:
        if session != self._session or not session:
            raise Invalid(
                "session: only the session attached to this connection can be detached here",
                field="session",
            )
        self._detaching[frame_id] = session
        self._write_began()
        self._node.detach(session, self, frame_id)

    def _detached(self, session: str) -> None:
        self._node.sessions.ended(session)
        if self._session == session:
            self._session = ""

    def _resolve(self, frame_id: int, request: wire.Resolve) -> None:
        query = request.query
        if request.consistency != "default":
            self._later(frame_id, self._resolve_later(frame_id, request))
            return
        self._node.check_fresh(request.max_stale_ms, request.min_revision)
        if query.is_plain:
            self.send(wire.RESOLVED, frame_id, self._registry.resolved_body(request.service))
        else:
            known, records = self._node.answers.select(request.service, query)
            tail = wire.encode(known) + wire.encode(records)
            self.send(wire.RESOLVED, frame_id, self._node.resolved_head() + tail)

    async def _resolve_later(self, frame_id: int, request: wire.Resolve) -> None:
        self.send(wire.RESOLVED, frame_id, wire.encode(await self._registry.resolve(request)))

    def _watch(self, frame_id: int, watch: wire.Watch) -> None:
        self._node.admit("watch")
        if watch.service != ALL:
            check_service(watch.service)
        if frame_id in self._watches:
            raise Invalid(f"id: a watch {frame_id} is open already: take another", field="id")
        if len(self._watches) >= wire.WATCHES_PER_CONNECTION_MAX:
            raise Overloaded(
                f"{wire.WATCHES_PER_CONNECTION_MAX} watches are open on this connection: watch all "
                "services at once, or open another connection"
            )
        native = _NativeWatch(self, frame_id)
        self._watches[frame_id] = native
        native.watcher = self._node.watches.begin(
            watch.service, native, watch.since, confirms=True
        )

    def _unwatch(self, watch_id: int) -> None:
        native = self._watches.pop(watch_id, None)
        if native is not None:
            self._node.watches.end(native.watcher)

    def _seen(self, watch_id: int, revision: int) -> None:
        native = self._watches.get(watch_id)
        if native is not None:
            self._node.watches.confirmed(native.watcher, min(revision, native.watcher.sent))

    async def _drain(self, frame_id: int, drain: wire.Drain) -> None:
        check_service(drain.service)
        check_id(drain.id)
        if not 0 <= drain.deadline_ms <= DRAIN_MS_MAX:
            raise Invalid(
                f"deadline: {drain.deadline_ms} ms is outside 0 to {DRAIN_MS_MAX} ms",
                field="deadline",
            )
        drained = await self._registry.drain(drain.service, drain.id, drain.deadline_ms)
        self.send(wire.DRAINED, frame_id, wire.encode(drained))

    async def _verify(self, frame_id: int, verify: wire.Verify) -> None:
        peer = self._transport.get_extra_info("peername") if self._transport else None
        seen_as = str(peer[0]) if peer else ""
        verified = await self._registry.verify(verify.service, verify.id, seen_as)
        self.send(wire.VERIFIED, frame_id, wire.encode(verified))

    def _later(self, frame_id: int, work: Coroutine[Any, Any, None]) -> None:
        if len(self._tasks) >= TASKS_MAX:
            work.close()
            raise Overloaded(f"{TASKS_MAX} slow requests are open on this connection: await some")

        async def run() -> None:
            try:
                await work
            except WaypostError as error:
                self._fault(frame_id, error)

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Out

    def ping(self) -> None:
        """Ask the client to say something: its session has been silent for a third of its lease."""
        self.send(wire.PING, 0)

    def going(self) -> None:
        """Tell the client to move: this node is stopping."""
        self.send(wire.GOING, 0)

    def close(self) -> None:
        """Close the connection, after what is buffered."""
        if self._transport is not None:
            self._transport.close()

    def close_if_silent(self) -> None:
        """Close it if it is half-open; one that holds a session is judged by its lease."""
        silent_ns = self._node.clock() - self.heard_ns
        if silent_ns > DEADLINE_MS * 1_000_000 and not self._session:
            log.info("closing a connection that was silent for %.1f s", silent_ns / 1e9)
            self.abort()

    def abort(self) -> None:
        """Drop the connection and what is buffered for it."""
        if self._transport is not None:
            self._transport.abort()

    def send(self, kind: int, frame_id: int, body: bytes = b"") -> None:
        """Write one frame, unless the connection is gone."""
        if self._transport is not None:
            self._transport.write(encode_frame(kind, frame_id, body))

    def _fault(self, frame_id: int, error: WaypostError) -> None:
        fault = wire.Fault(
            error.code,
            error.message,
            getattr(error, "field", ""),
            getattr(error, "retry_after", 0.0),
        )
        self.send(wire.FAULT, frame_id, wire.encode(fault))

    def _write_began(self) -> None:
        self._under_way += 1
        if self._under_way > WRITES_UNDER_WAY_MAX:
            self._reconsider_reading()

    def _write_ended(self) -> None:
        self._under_way -= 1
        assert self._under_way >= 0, "a write was answered twice"
        if not self._is_reading:
            self._reconsider_reading()

    def _reconsider_reading(self) -> None:
        should_read = not self.is_slow and self._under_way <= WRITES_UNDER_WAY_MAX
        if should_read != self._is_reading and self._transport is not None:
            self._is_reading = should_read
            if should_read:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()


class _NativeWatch:
    """One watch of a connection: what it is told, as frames with its id."""

    __slots__ = ("_connection", "_id", "watcher")

    def __init__(self, connection: NativeConnection, watch_id: int) -> None:
        self._connection = connection
        self._id = watch_id
        self.watcher: Watcher

    @property
    def is_slow(self) -> bool:
        """Whether the connection's buffer is full."""
        return self._connection.is_slow

    def send_snapshot(self, revision: int, records: list[Record]) -> None:
        """Everything, as of ``revision``."""
        body = wire.encode(wire.Snapshot(revision, records))
        self._connection.send(wire.SNAPSHOT, self._id, body)

    def send_burst(self, burst: Burst) -> None:
        """What changed; the body is the same for every connection."""
        body = burst.encoded.get("native")
        if body is None:
            body = wire.encode(wire.Changes(burst.revision, burst.changes))
            burst.encoded["native"] = body
        self._connection.send(wire.CHANGES, self._id, body)

    def send_bookmark(self, revision: int) -> None:
        """Nothing changed up to ``revision``."""
        self._connection.send(wire.BOOKMARK, self._id, wire.encode(revision))


def _invalid(error: Exception) -> Invalid:
    return Invalid(
        f"body: {error}: see docs/protocol.md for what this kind of frame carries", field="body"
    )
