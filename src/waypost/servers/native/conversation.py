"""What is said over one native connection: each request, the verb that it calls, and its answer.

The hot path is ``take`` → ``_write`` → ``Node.offer``, and back by ``answered``: no future, task or
dict is made for a write.  What goes into the log is encoded anew from what was checked: a field
that this version does not know, or nesting as deep as its reader's stack, stays outside.

Always true: every request gets exactly one answer, ``Fault`` included; nothing of a faulty write is
proposed.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from waypost import wire
from waypost.checks import check_checks
from waypost.commands import (
    CheckCommand,
    ClientCommand,
    Command,
    Origin,
    Outcome,
    Register,
    RegisterChecked,
    SetHealth,
)
from waypost.errors import (
    Invalid,
    Overloaded,
    ProtocolViolation,
    UnknownSession,
    WaypostError,
)
from waypost.model import check_id, check_instance, check_service, check_ttl, check_why
from waypost.node.check_verbs import check_check_command
from waypost.node.node import Node
from waypost.node.registry import Registry
from waypost.servers.native.attaching import Attaching, Detaching
from waypost.servers.native.checked import checked_of
from waypost.servers.native.watch import NativeWatches

if TYPE_CHECKING:
    from waypost.servers.native.connection import NativeConnection

TASKS_MAX: Final = 256
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Conversation:
    """What a client has said and what it waits for: its session, watches and slow requests."""

    __slots__ = (
        "_attaching",
        "_connection",
        "_node",
        "_registry",
        "_tasks",
        "_watches",
        "agent",
        "client",
        "has_greeted",
        "session",
    )

    def __init__(self, connection: "NativeConnection", node: Node, registry: Registry) -> None:
        self._connection = connection
        self._node = node
        self._registry = registry
        self._watches = NativeWatches(connection, node)
        self._tasks: set[asyncio.Task[None]] = set()
        self._attaching = ""
        self.has_greeted = False
        self.agent = ""
        self.client = ""
        """Whose writes these are, if it said; then the id of each tells it from all others."""
        self.session = ""
        """The session that is attached to this connection."""

    def take(self, kind: int, frame_id: int, body: bytes) -> None:
        """Take one frame.  Raises ``ProtocolViolation`` when the connection must end."""
        if not self.has_greeted and kind != wire.HELLO:
            raise ProtocolViolation("the first frame must be HELLO: send it, then ask")
        try:
            if kind == wire.WRITE:
                self._write(frame_id, body)
            elif kind == wire.RESOLVE:
                self._resolve(frame_id, wire.decode_resolve(body))
            else:
                self._request(kind, frame_id, body)
        except _UNREADABLE as error:
            self._connection.fault(frame_id, _invalid(error))
        except ProtocolViolation:
            raise
        except WaypostError as error:
            self._connection.fault(frame_id, error)

    @property
    def has_confirmed(self) -> bool:
        """Whether it has confirmed all that its watches were told."""
        return self._watches.have_confirmed

    def catch_up(self) -> None:
        """The client reads again: tell its watches what they missed, as far as it reads."""
        self._watches.catch_up()

    def end(self, *, is_node_leaving: bool) -> None:
        """The connection is gone."""
        self._watches.end_all()
        for task in self._tasks:
            task.cancel()
        if self.session and not is_node_leaving:
            self._node.sessions.disconnected(self._connection, self.session, self._node.clock())

    # Writes

    def _write(self, frame_id: int, body: bytes) -> None:
        commands = wire.decode_write(body)
        self._check(commands)
        if self.client and not frame_id:
            raise Invalid("id: 0 tells no write from another: count from 1", field="id")
        self._connection.write_began()
        part = wire.encode(commands)
        origin = Origin(self.client, frame_id) if self.client else None
        self._node.offer(part, cast("list[Command]", commands), self, frame_id, origin)

    def answered(self, ticket: int, revision: int, outcomes: list[Outcome]) -> None:
        """A write of this connection was committed."""
        self._connection.write_ended()
        self._connection.send(wire.OUTCOMES, ticket, wire.encode(wire.Outcomes(revision, outcomes)))

    def failed(self, ticket: int, error: WaypostError) -> None:
        """A write of this connection was refused whole, or its fate is unknown."""
        self._connection.write_ended()
        self._connection.fault(ticket, error)

    def _check(self, commands: list[ClientCommand]) -> None:
        if not 0 < len(commands) <= wire.COMMANDS_PER_WRITE_MAX:
            raise Invalid(
                f"commands: a write of {len(commands)}; send 1 to {wire.COMMANDS_PER_WRITE_MAX} "
                "in one frame",
                field="commands",
            )
        self._node.admit("register" if self._is_registering(commands) else "deregister")

    def _is_registering(self, commands: list[ClientCommand]) -> bool:
        """Check each, and tell whether any adds to what is there."""
        is_registering = False
        attached = (self.session, self._attaching)
        for command in commands:
            if isinstance(command, Register):
                is_registering = True
                check_instance(command.instance)
                if command.why:
                    check_why(command.why)
                session = command.session
                if session and session not in attached:
                    raise Invalid(
                        "session: it is not attached to this connection: attach it first",
                        field="session",
                    )
            elif isinstance(command, RegisterChecked):
                check_checks(command.checks)
                is_registering = self._is_registering([command.register])
            elif isinstance(command, CheckCommand):
                is_registering = True
                check_check_command(command)
            else:
                check_service(command.service)
                check_id(command.id)
                if isinstance(command, SetHealth):
                    is_registering = True
                    check_why(command.why)
        return is_registering

    # Everything else

    def _request(self, kind: int, frame_id: int, body: bytes) -> None:
        send = self._connection.send
        match kind:
            case wire.PING:
                send(wire.PONG, frame_id)
            case wire.PONG:
                self._connection.echoed = frame_id or self._connection.echoed
            case wire.SEEN:
                self._watches.seen(frame_id, wire.decode_number(body))
            case wire.HELLO:
                self._hello(frame_id, wire.decode_hello(body))
            case wire.ATTACH:
                self._attach(frame_id, wire.decode_attach(body))
            case wire.DETACH:
                self._detach(frame_id, wire.decode_text(body))
            case wire.LIST:
                self._list(frame_id, wire.decode_number(body) if body else 0)
            case wire.CHECKS:
                service = wire.decode_text(body)
                check_service(service)
                send(wire.CHECKED, frame_id, wire.encode(checked_of(self._registry, service)))
            case wire.WATCH:
                self._watches.begin(frame_id, wire.decode_watch(body))
            case wire.UNWATCH:
                self._watches.end(frame_id)
            case wire.DRAIN:
                self._drain(frame_id, wire.decode_drain(body))
            case wire.VERIFY:
                self._verify(frame_id, wire.decode_verify(body))
            case wire.CLUSTER:
                ask = wire.decode_cluster_ask(body)
                self._later(frame_id, wire.MEMBERS, lambda: self._registry.cluster(ask))
            case wire.STATUS:
                send(wire.STATE, frame_id, wire.encode(self._registry.status()))
            case _:
                raise Invalid(
                    f"kind: {kind} is not a request of protocol version "
                    f"{wire.PROTOCOL_VERSION}: see docs/protocol.md",
                    field="kind",
                )

    def _hello(self, frame_id: int, hello: wire.Hello) -> None:
        if hello.version < 1:
            raise ProtocolViolation(
                f"version: {hello.version} is not a protocol version: this node speaks 1 to "
                f"{wire.PROTOCOL_VERSION}"
            )
        self.has_greeted = True
        if len(hello.client) > wire.CLIENT_CHARS_MAX:
            raise ProtocolViolation(
                f"client: {len(hello.client)} characters, at most {wire.CLIENT_CHARS_MAX}: make it "
                "up at random"
            )
        self.agent = hello.agent[:128]
        self.client = hello.client
        welcome = wire.Welcome(
            min(hello.version, wire.PROTOCOL_VERSION),
            self._node.name,
            self._node.cluster,
            self._node.revision,
            wire.PING_MS,
            wire.DEADLINE_MS,
            self._node.native_addresses,
            self._node.leader,
        )
        self._connection.send(wire.WELCOME, frame_id, wire.encode(welcome))

    # The session

    def _attach(self, frame_id: int, attach: wire.AttachSession) -> None:
        check_ttl(attach.ttl_ms)
        if attach.ttl_ms == 0 or not 0 <= attach.grace_ms <= attach.ttl_ms:
            raise Invalid(
                f"grace: {attach.grace_ms} ms with a ttl of {attach.ttl_ms} ms: a session needs a "
                "ttl, and a grace of 0 to that ttl",
                field="grace",
            )
        if not 0 < len(attach.session) <= wire.SESSION_CHARS_MAX or ":" in attach.session:
            raise Invalid(
                f"session: give 1 to {wire.SESSION_CHARS_MAX} characters without ':', at random",
                field="session",
            )
        if self.session not in ("", attach.session) or self._attaching:
            raise Invalid(
                "session: this connection has one already: open another connection, or detach it",
                field="session",
            )
        self._node.admit("register")
        self._attaching = attach.session
        self._connection.write_began()
        owner = Attaching(self, attach)
        self._node.attach(attach.session, attach.ttl_ms, attach.grace_ms, owner, frame_id)

    def attached(
        self, attach: wire.AttachSession, ticket: int, revision: int, outcomes: list[Outcome]
    ) -> None:
        """The log has answered an ATTACH of this connection."""
        self._attaching = ""
        node, connection = self._node, self._connection
        connection.write_ended()
        (outcome,) = outcomes
        if isinstance(outcome, int):
            self.session = attach.session
            node.own_session(attach.session, outcome, attach.ttl_ms, attach.grace_ms, connection)
            if connection.transport is None:  # it broke before the log had answered
                node.sessions.disconnected(connection, attach.session, node.clock())
        holds = self._registry.holdings(attach.session)
        connection.send(
            wire.OUTCOMES, ticket, wire.encode(wire.Attached(revision, outcomes, holds))
        )

    def not_attached(self, ticket: int, error: WaypostError) -> None:
        """An ATTACH of this connection failed whole."""
        self._attaching = ""
        self.failed(ticket, error)

    def _detach(self, frame_id: int, session: str) -> None:
        if session != self.session or not session:
            raise Invalid(
                "session: only the session attached to this connection can be detached here",
                field="session",
            )
        self._connection.write_began()
        self._node.detach(session, Detaching(self, session), frame_id)

    def detached(self, session: str) -> None:
        """The log has answered a DETACH of this connection."""
        self._node.sessions.ended(session)
        if self.session == session:
            self.session = ""

    def session_moved(self) -> None:
        """Another connection holds the session now; who did not want that attaches it again."""
        self._connection.send(wire.MOVED, 0, wire.encode(self.session))
        self.session = ""

    def session_expired(self) -> None:
        """The session was silent for a whole lease.

        The client must learn of it, or it would go on believing itself registered.
        """
        self.session = ""
        self._connection.hang_up(
            UnknownSession(
                "session: its lease is over, nothing was heard from this connection: connect anew, "
                "attach it and register again"
            )
        )

    # Reads

    def _resolve(self, frame_id: int, request: wire.Resolve) -> None:
        if request.consistency != "default" or request.min_revision > self._node.revision:
            self._later(frame_id, wire.RESOLVED, lambda: self._registry.resolve(request))
            return
        self._node.check_fresh(request.max_stale_ms, request.min_revision)
        if request.query.is_plain:
            body = self._registry.resolved_body(request.service)
        else:
            known, records = self._node.answers.select(request.service, request.query)
            body = self._node.resolved_head() + wire.encode(known) + wire.encode(records)
        self._connection.send(wire.RESOLVED, frame_id, body)

    def _list(self, frame_id: int, min_revision: int) -> None:
        if min_revision > self._node.revision:
            self._later(frame_id, wire.SERVICES, lambda: self._registry.list_from(min_revision))
        else:
            self._connection.send(wire.SERVICES, frame_id, wire.encode(self._registry.services()))

    # What takes a while

    def _drain(self, frame_id: int, drain: wire.Drain) -> None:
        check_service(drain.service)
        check_id(drain.id)
        if not 0 <= drain.deadline_ms <= wire.DRAIN_MS_MAX:
            raise Invalid(
                f"deadline: {drain.deadline_ms} ms is outside 0 to {wire.DRAIN_MS_MAX} ms",
                field="deadline",
            )
        registry = self._registry
        self._later(
            frame_id,
            wire.DRAINED,
            lambda: registry.drain(drain.service, drain.id, drain.deadline_ms),
        )

    def _verify(self, frame_id: int, verify: wire.Verify) -> None:
        transport = self._connection.transport
        peer = transport.get_extra_info("peername") if transport else None
        seen_as = str(peer[0]) if peer else ""
        registry = self._registry
        self._later(
            frame_id,
            wire.VERIFIED,
            lambda: registry.verify(verify.service, verify.id, seen_as),
        )

    def _later(
        self, frame_id: int, kind: int, work: Callable[[], Coroutine[Any, Any, object]]
    ) -> None:
        if len(self._tasks) >= TASKS_MAX:
            raise Overloaded(f"{TASKS_MAX} slow requests are open on this connection: await some")

        async def run() -> None:
            try:
                self._connection.send(kind, frame_id, wire.encode(await work()))
            except WaypostError as error:
                self._connection.fault(frame_id, error)

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _invalid(error: Exception) -> Invalid:
    return Invalid(
        f"body: {error}: see docs/protocol.md for what this kind of frame carries", field="body"
    )
