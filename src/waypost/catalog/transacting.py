"""Transactions: operations on keys, nodes, services and checks, all of them or none.

Keys are drafted (``draft``).  The others are rehearsed: the same commands run on a small catalog
that holds a copy of what they touch, so that each operation sees what those before it did, and
nothing has to be undone.  Only if all went through is the draft kept, and only then do the commands
run here, where they come to the same.

So a session that ends with a check or a node of the transaction ends after its last operation.

An instance is looked for on the node that it names; one that names none is on no node here.
"""

from typing import Final, Self

import msgspec

from waypost.catalog.draft import Draft
from waypost.catalog.history import History
from waypost.catalog.keys import Pair
from waypost.catalog.keyspace import Keyspace, Miss
from waypost.catalog.nodes import Key
from waypost.catalog.origins import Origins
from waypost.catalog.registering import Registering
from waypost.checks import CheckState, NodeEntry, NodeName
from waypost.commands import (
    CheckKey,
    Command,
    Deregister,
    DropCheck,
    DropKey,
    DropNode,
    KeyCommand,
    KeyOperation,
    OnCheck,
    OnNode,
    OnService,
    Operation,
    Outcome,
    PutCheck,
    PutKey,
    PutNode,
    ReadKey,
    Refused,
    Register,
    Transact,
)
from waypost.model import InstanceId, Record

OPERATIONS_MAX: Final = 128
"""Of one transaction."""
READ_BYTES_MAX: Final = 1 << 20
"""That one transaction reads of keys."""
IMPLIED_REVISION: Final = 1
"""Of a node that is there without an entry."""


class Found(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A node, an instance, or a check with the instance that it belongs to, if to one."""

    pairs_before: int
    """How many pairs come before it."""
    entry: NodeEntry | None = None
    record: Record | None = None
    check: CheckState | None = None


class Transacted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What came of a transaction: nothing was done if anything missed."""

    pairs: list[Pair]
    """What was read, and, without their values, what was set or checked, in order."""
    missed: list[tuple[int, Miss]]
    """Which operations did not go through."""
    found: list[Found] = []
    """What was read or set beside keys, in order."""


_encoder = msgspec.msgpack.Encoder()
_transacted_decoder = msgspec.msgpack.Decoder(Transacted)


def decode_transacted(outcome: bytes) -> Transacted:
    """Read what ``Transact`` yielded."""
    return _transacted_decoder.decode(outcome)


def is_read(operation: Operation) -> bool:
    """Whether it changes nothing."""
    if isinstance(operation, OnNode | OnService | OnCheck):
        return operation.verb == "get"
    return isinstance(operation, ReadKey | CheckKey)


class Transacting(Registering):
    """The directory, and what transactions do to it."""

    def look(self, operations: list[Operation]) -> Transacted:
        """Do a transaction that only reads, now."""
        assert all(is_read(each) for each in operations)
        return self._attempt(Draft(self.keyspace.keys), self, operations)

    def _keyed(self, command: KeyCommand | Transact) -> Outcome:
        return self._transact(command) if isinstance(command, Transact) else super()._keyed(command)

    def _transact(self, command: Transact) -> Outcome:
        operations = command.operations[:OPERATIONS_MAX]
        others = [each for each in operations if not isinstance(each, KeyOperation)]
        draft = Draft(self.keyspace.keys)
        done = self._attempt(draft, self._rehearsal(others) if others else self, operations)
        if len(command.operations) > OPERATIONS_MAX:
            done = Transacted([], [*done.missed, (OPERATIONS_MAX, Miss("too-large"))])
        if not done.missed:
            self.keyspace.commit(draft, self.revision)
            for each in others:
                came = self._operate(each, 0)
                assert not isinstance(came, Miss), (each, came)
        return _encoder.encode(done)

    def _attempt(
        self, draft: Draft, stage: "Transacting", operations: list[Operation]
    ) -> Transacted:
        pairs: list[Pair] = []
        found: list[Found] = []
        missed: list[tuple[int, Miss]] = []
        room = READ_BYTES_MAX
        for number, operation in enumerate(operations):
            if isinstance(operation, PutKey | DropKey | ReadKey | CheckKey):
                read = self.keyspace.operate(draft, operation, self.revision, self.now_ms, room)
                if isinstance(read, Miss):
                    missed.append((number, read))
                else:
                    pairs += read
                    room -= sum(len(pair.value) + len(pair.key) for pair in read)
                continue
            came = stage._operate(operation, len(pairs))
            if isinstance(came, Miss):
                missed.append((number, came))
            elif came is not None:
                found.append(came)
        return Transacted([], missed) if missed else Transacted(pairs, missed, found)

    def _rehearsal(self, operations: list[OnNode | OnService | OnCheck]) -> Self:
        """A catalog with all that the operations can touch, and without those who hold keys."""
        names = dict[NodeName, None]()
        keys = dict[Key, None]()
        for each in operations:
            if isinstance(each, OnNode):
                names[each.entry.name] = None
                continue
            names[each.node] = None
            if isinstance(each, OnService) and each.instance is not None:
                named = each.instance.service, each.instance.id
                keys[named] = None
                service = self._services.get(named[0])
                held = None if service is None else service.records.get(named[1])
                if held is not None and held.instance.node:
                    names[held.instance.node] = None
        for name in names:
            keys.update(dict.fromkeys(self.nodes.on(name)))
        services = {
            name: self._services[name].copy()
            for name in dict.fromkeys(service for service, _ in keys)
            if name in self._services
        }
        return self.restored(
            self.revision,
            self.now_ms,
            self.serial,
            services,
            self.sessions,
            Origins(),
            Keyspace(),
            History(),
            self.checks.part(names, keys),
            self.nodes.part(names),
        )

    def _operate(
        self, operation: OnNode | OnService | OnCheck, pairs_before: int
    ) -> Found | Miss | None:
        match operation:
            case OnNode():
                entry = self._on_node(operation)
                return Found(pairs_before, entry) if isinstance(entry, NodeEntry) else entry
            case OnService():
                record = self._on_service(operation)
                if isinstance(record, Record):
                    return Found(pairs_before, record=record)
                return record
            case OnCheck():
                state = self._on_check(operation)
                if not isinstance(state, CheckState):
                    return state
                record_or_none = self._record((state.service, state.id)) if state.id else None
                return Found(pairs_before, record=record_or_none, check=state)

    def _on_node(self, operation: OnNode) -> NodeEntry | Miss | None:
        given = operation.entry
        name = given.name
        is_there = self._has_node(name, is_server=operation.is_server)
        before = self.nodes.entries.get(name)
        if before is None and is_there:
            before = NodeEntry(name, revision=IMPLIED_REVISION)
        if operation.verb == "get":
            return before or Miss("missing")
        if _is_stale(operation, 0 if before is None else before.revision):
            return Miss("stale")
        if operation.verb == "set":
            miss = _missed(self._put_node(PutNode(given)))
            return miss or self.nodes.entries[name]
        gone: list[Command] = [Deregister(*key) for key in self.nodes.on(name)]
        self._run(gone)
        self._drop_node(DropNode(name))  # refused, if it was there for its instances' sake only
        return None

    def _on_service(self, operation: OnService) -> Record | Miss | None:
        given, before = operation.instance, self._held_on(operation.node, operation.ids)
        if operation.verb == "get":
            return before or Miss("missing")
        if _is_stale(operation, 0 if before is None else before.revision):
            return Miss("stale")
        if operation.verb == "delete":
            if before is not None:
                self._run([Deregister(before.instance.service, before.instance.id)])
            return None
        if given is None or not self._has_node(operation.node, is_server=operation.is_server):
            return Miss("no-node")
        if before is not None and before.instance.service == given.service:
            given = msgspec.structs.replace(given, id=before.instance.id)
        elif before is not None:
            self._run([Deregister(before.instance.service, before.instance.id)])
        miss = _missed(*self._run([Register(given)]))
        return miss or self._services[given.service].records[given.id]

    def _on_check(self, operation: OnCheck) -> CheckState | Miss | None:
        given, node = operation.check, operation.node
        before = self._check_on(node, given.id)
        if operation.verb == "get":
            return before or Miss("missing")
        if _is_stale(operation, 0 if before is None else before.revision):
            return Miss("stale")
        if operation.verb == "delete":
            if before is not None:
                self._drop_check(DropCheck(before.service, before.id, before.node, given.id))
            return None
        if not self._has_node(node, is_server=operation.is_server):
            return Miss("no-node")
        owner = "", "", node
        if operation.ids:
            record = self._held_on(node, operation.ids)
            if record is None:
                return Miss("no-service")
            owner = record.instance.service, record.instance.id, ""
        if before is not None and (before.service, before.id, before.node) != owner:
            self._drop_check(DropCheck(before.service, before.id, before.node, given.id))
        if before is not None and before.check.kind != "manual":  # who probes it goes on
            given = msgspec.structs.replace(before.check, name=given.name, notes=given.notes)
        put = PutCheck(*owner, given, operation.status, operation.output)
        return _missed(self._put_check(put)) or self._check_on(node, given.id)

    # What those are made of

    def _run(self, part: list[Command]) -> list[Outcome]:
        raise NotImplementedError

    def _has_node(self, name: NodeName, *, is_server: bool) -> bool:
        nodes = self.nodes
        return (
            is_server or name in nodes.entries or nodes.has_any(name) or name in self.checks.nodes
        )

    def _record(self, key: Key) -> Record:
        return self._services[key[0]].records[key[1]]

    def _held_on(self, node: NodeName, ids: tuple[InstanceId, ...]) -> Record | None:
        """Find the instance on a node that has one of these ids."""
        found = next((key for key in self.nodes.on(node) if key[1] in ids), None)
        return None if found is None else self._record(found)

    def _check_on(self, node: NodeName, check_id: str) -> CheckState | None:
        """Find a check of a node, or of what is on it."""
        found = self.checks.find(("", ""), node, check_id)
        own = (self.checks.find(key, "", check_id) for key in self.nodes.on(node))
        return found or next((state for state in own if state is not None), None)


def _is_stale(operation: OnNode | OnService | OnCheck, revision: int) -> bool:
    """Whether it asks for another revision; 0 is of what is not there, and nothing to delete."""
    asked = operation.cas
    return asked >= 0 and (asked != revision or (operation.verb == "delete" and not revision))


def _missed(outcome: Outcome) -> Miss | None:
    return Miss("full", outcome.message) if isinstance(outcome, Refused) else None
