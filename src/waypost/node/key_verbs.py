"""The verbs for keys, their holders, transactions and events; ``registry`` has those for services.

What the keys of a registry may take is bounded here, where a write comes in, by the bytes that this
node has applied: what is under way may exceed the bound by itself, which admission bounds.

A holder's lease is a session of the registry that no connection keeps: the node at which it was
opened watches over it, a renewal elsewhere is passed on to that node, and where that node is lost,
the one that was asked takes the session over.
"""

import uuid
from collections.abc import Iterable
from typing import Final, Protocol, assert_never

from waypost.catalog.holders import Holder, holder_of, session_of
from waypost.catalog.keys import KEY_BYTES_MAX, PAIR_BYTES, VALUE_BYTES_MAX
from waypost.catalog.keyspace import Keyspace, unknown_holder
from waypost.catalog.transacting import OPERATIONS_MAX, Transacted, decode_transacted, is_read
from waypost.checks import check_check, check_check_id, check_node, check_node_name
from waypost.commands import (
    Attach,
    CheckKey,
    CloseHolder,
    Command,
    Detach,
    DropKey,
    FireEvent,
    OnCheck,
    OnNode,
    OnService,
    OpenHolder,
    Operation,
    PutKey,
    ReadKey,
    Transact,
)
from waypost.errors import (
    Invalid,
    Rejected,
    Unavailable,
    UnknownHolder,
    UnknownSession,
)
from waypost.model import Revision, check_instance
from waypost.node.key_waits import KeyWaits
from waypost.node.node import Node
from waypost.node.refusal import raised
from waypost.wire import Outcomes

PAYLOAD_BYTES_MAX: Final = 512
"""Of an event."""
_EVENT_TEXT_CHARS_MAX: Final = 512
_HOLDER_CHARS_MAX: Final = 2_048
_RENEWED_AGE_MS_MAX: Final = 2_000
"""A node that is cut off must not confirm leases that the others see run out."""


class Full(Rejected):
    """The keys take as much as they may."""


class Write(Protocol):
    """``Registry.write``."""

    async def __call__(self, commands: list[Command]) -> Outcomes:
        """Commit commands together, in one log entry."""
        ...


class KeyVerbs:
    """The verbs of one node."""

    def __init__(self, node: Node, write: Write) -> None:
        self._node = node
        self._write = write

    @property
    def space(self) -> Keyspace:
        """All that this node knows of them: to read, until the event loop turns."""
        return self._node.catalog.keyspace

    @property
    def waits(self) -> KeyWaits:
        """Who waits for a change."""
        return self._node.key_waits

    # Keys

    async def put(self, command: PutKey) -> tuple[Revision, bool]:
        """Set a key; False if a condition did not hold."""
        self._check_put(command)
        return await self._done(command)

    async def drop(self, command: DropKey) -> tuple[Revision, bool]:
        """Remove a key, or all under it; False if a condition did not hold."""
        _check_key(command.key, may_be_empty=command.is_prefix)
        return await self._done(command)

    async def transact(self, operations: list[Operation]) -> tuple[Revision, Transacted]:
        """Do all of it or nothing; what only reads is read from this node."""
        if len(operations) > OPERATIONS_MAX:
            raise Invalid(
                f"operations: {len(operations)}, at most {OPERATIONS_MAX} are done at once: send "
                "several transactions",
                field="operations",
            )
        for operation in operations:
            _check_operation(operation)
            if isinstance(operation, PutKey):
                self._check_put(operation)
        if all(is_read(each) for each in operations):
            return self._node.catalog.revision, self._node.catalog.look(operations)
        puts = [each for each in operations if isinstance(each, PutKey)]
        self._check_room(puts)
        done = await self._write([Transact(operations)])
        (outcome,) = done.outcomes
        if isinstance(outcome, bytes):
            return done.revision, decode_transacted(outcome)
        raised(outcome)
        raise AssertionError("a transaction yields what came of it")

    # Holders

    async def open(self, asked: OpenHolder) -> tuple[Revision, str]:
        """Open a holder; ``asked`` says everything but its id.  Tell the id."""
        texts = (asked.name, asked.node, *asked.node_checks, *asked.service_checks)
        if sum(map(len, texts)) > _HOLDER_CHARS_MAX:
            raise Invalid(
                f"holder: its name, node and checks have {sum(map(len, texts))} characters, at "
                f"most {_HOLDER_CHARS_MAX} are kept: name fewer checks",
                field="holder",
            )
        holder_id = str(uuid.uuid4())
        commands: list[Command] = []
        session, ttl_ms, node = session_of(holder_id), asked.ttl_ms, self._node
        if ttl_ms:
            commands.append(Attach(session, node.name, ttl_ms, ttl_ms))
        commands.append(
            OpenHolder(
                holder_id,
                asked.name,
                asked.node,
                ttl_ms,
                asked.behavior,
                asked.lock_delay_ms,
                asked.node_checks,
                asked.service_checks,
            )
        )
        done = await self._write(commands)
        if ttl_ms:  # the session is there, even if it is of no use: then it ends by itself
            node.own_session(session, raised(done.outcomes[0]), ttl_ms, ttl_ms, None)
        raised(done.outcomes[-1])
        return done.revision, holder_id

    async def close(self, holder_id: str) -> Revision:
        """End a holder; one that is not open is closed already."""
        done = await self._write([CloseHolder(holder_id)])
        self._node.sessions.ended(session_of(holder_id))
        return done.revision

    async def renew(self, holder_id: str) -> Holder:
        """Keep a holder alive: it has a whole lease from now on; or ``UnknownHolder``."""
        holder = self.space.holders.find(holder_id)
        if holder is None:  # it may have been opened just now, elsewhere
            await self._node.barrier()
            holder = self._open_one(holder_id)
        if holder.ttl_ms:
            await self._renew(session_of(holder_id))
            self._open_one(holder_id)
        return holder

    async def _renew(self, session_id: str) -> None:
        node = self._node
        held = node.owned(session_id)
        if held is not None:
            node.sessions.renewed(held, node.clock())
        if node.age_ms > _RENEWED_AGE_MS_MAX:  # it counts here, and may not elsewhere
            raise Unavailable(
                f"holder: this node has not heard of the others for {_RENEWED_AGE_MS_MAX / 1000:g} "
                "s, and they may have ended it: renew it at another node"
            )
        if held is not None:
            return
        session = node.catalog.session(session_id)
        if session is None:
            return
        if session.node != node.name and node.others is not None:
            try:
                await node.others.call_owner(session.node, session_id)
            except (Unavailable, UnknownSession):
                pass  # it is lost, or about to end it: own it here
            else:
                return
        done = await self._write([Attach(session_id, node.name, session.ttl_ms, session.grace_ms)])
        if self.space.holders.find(holder_of(session_id)) is None:
            await self._write([Detach(session_id)])  # it had ended, and was begun anew for nobody
            return
        attachment = raised(done.outcomes[0])
        node.own_session(session_id, attachment, session.ttl_ms, session.grace_ms, None)

    def _open_one(self, holder_id: str) -> Holder:
        holder = self.space.holders.find(holder_id)
        if holder is None:
            raise UnknownHolder(unknown_holder(holder_id).message)
        return holder

    # Events

    async def fire(self, event: FireEvent) -> Revision:
        """Tell everybody of an event."""
        if len(event.payload) > PAYLOAD_BYTES_MAX:
            raise Invalid(
                f"payload: {len(event.payload)} bytes, at most {PAYLOAD_BYTES_MAX} are told: tell "
                "where the rest is",
                field="payload",
            )
        for name in ("name", "node", "service", "tag"):
            if len(getattr(event, name)) > _EVENT_TEXT_CHARS_MAX:
                raise Invalid(f"{name}: longer than {_EVENT_TEXT_CHARS_MAX} characters", field=name)
        done = await self._write([event])
        raised(done.outcomes[0])
        return done.revision

    # What verbs are made of

    async def _done(self, command: PutKey | DropKey) -> tuple[Revision, bool]:
        done = await self._write([command])
        return done.revision, raised(done.outcomes[0]) == 1

    def _check_put(self, command: PutKey) -> None:
        _check_key(command.key)
        if len(command.value) > VALUE_BYTES_MAX:
            raise Invalid(
                f"value: {len(command.value)} bytes, at most {VALUE_BYTES_MAX} are kept under a "
                "key: use several keys",
                field="value",
            )
        self._check_room([command])

    def _check_room(self, puts: Iterable[PutKey]) -> None:
        """What only grows is refused; what replaces something as large always goes through."""
        limit, keys = self._node.keys_bytes_max, self.space.keys
        grows = 0
        for put in puts:
            before = keys.find(put.key)
            if before is None:
                grows += len(put.key.encode()) + len(put.value) + PAIR_BYTES
            else:
                grows += len(put.value) - len(before.value)
        if grows > 0 and keys.size + grows > limit:
            raise Full(
                f"keys: they take {keys.size >> 10} KiB, and may take {limit >> 10}: remove some, "
                "or start every node with a larger --keys-max"
            )


def _check_operation(operation: Operation) -> None:
    """Raise ``Invalid`` unless all that it says is within limits, a value aside."""
    match operation:
        case PutKey() | CheckKey():
            _check_key(operation.key)
        case DropKey() | ReadKey():
            _check_key(operation.key, may_be_empty=operation.is_prefix)
        case OnNode():
            check_node(operation.entry)
        case OnService():
            check_node_name(operation.node)
            if operation.instance is not None:
                check_instance(operation.instance)
        case OnCheck():
            check_node_name(operation.node)
            check_check_id(operation.check.id)
            if operation.verb == "set":
                check_check(operation.check)
        case _:
            assert_never(operation)


def _check_key(key: str, *, may_be_empty: bool = False) -> None:
    if not key and not may_be_empty:
        raise Invalid("key: empty: name one", field="key")
    if len(key.encode()) > KEY_BYTES_MAX:
        raise Invalid(
            f"key: {len(key.encode())} bytes, at most {KEY_BYTES_MAX} are taken: shorten it",
            field="key",
        )
