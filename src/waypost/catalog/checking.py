"""What the commands on checks and nodes do.

Each changes the tables of ``checks`` and ``nodes``; where that changes how an instance is, its
record is put anew and its watchers are told.  A check that only says something else is no change
of the instance: it moves the revision of the checks, and no watcher of instances hears of it.

Like all of the catalog it is total: a refusal is an outcome.
"""

from typing import Final

from msgspec import structs

from waypost.catalog.checks import Held, States, with_state, without
from waypost.catalog.directory import WHY_CONNECTION_LOST, Directory
from waypost.checks import CHECKS_PER_OWNER_MAX, CheckState, NodeName, cut_output
from waypost.commands import (
    CheckCommand,
    DropCheck,
    DropNode,
    Outcome,
    PutCheck,
    PutNode,
    ReapCheck,
    Refused,
    ReportCheck,
)
from waypost.errors import Invalid, UnknownCheck, UnknownInstance, UnknownNode, UnknownService
from waypost.model import Health, Record

CHECKS_MAX: Final = 200_000
NODES_MAX: Final = 100_000


class Checking(Directory):
    """The directory, and what those commands do to it."""

    def _check(self, command: CheckCommand | ReapCheck) -> Outcome:
        match command:
            case ReapCheck():
                return self._reap_check(command)
            case ReportCheck():
                return self._report_check(command)
            case PutCheck():
                return self._put_check(command)
            case DropCheck():
                return self._drop_check(command)
            case PutNode():
                return self._put_node(command)
            case DropNode():
                return self._drop_node(command)

    def _put_check(self, command: PutCheck) -> Outcome:
        record = self._owner(command)
        if isinstance(record, Refused):
            return record
        states = self._states(command.node, record)
        before = _find(states, command.check.id)
        if before is None and (
            len(states) >= CHECKS_PER_OWNER_MAX or self.checks.count >= CHECKS_MAX
        ):
            return Refused(
                Invalid.code,
                f"check: {_shown(command)} has {len(states)} checks, at most "
                f"{CHECKS_PER_OWNER_MAX}, and the registry {self.checks.count}, at most "
                f"{CHECKS_MAX}: drop some first",
            )
        if command.status:
            status, output = command.status, cut_output(command.output)
        elif before is not None:
            status, output = before.status, before.output
        else:
            status, output = "critical", cut_output(command.output)
        state = CheckState(
            command.service if record is None else record.instance.service,
            "" if record is None else record.instance.id,
            command.node,
            command.check if before is None or before.check != command.check else before.check,
            status,
            output,
            before.since_ms if before is not None and before.status == status else self.now_ms,
            self.revision if before is None else before.revision,
        )
        if state != before:
            self._set_states(command.node, record, states, state)
        return 0

    def _drop_check(self, command: DropCheck) -> Outcome:
        record = self._owner(command)
        if isinstance(record, Refused):
            return record
        states = self._states(command.node, record)
        if _find(states, command.check_id) is None:
            return _unknown_check(command)
        left = without(states, command.check_id)
        if record is None:
            self._set_of_node(command.node, left)
        else:
            self._set_own(record, left)
        return 0

    def _report_check(self, command: ReportCheck) -> Outcome:
        record = self._owner(command)
        if isinstance(record, Refused):
            return record
        states = self._states(command.node, record)
        before = _find(states, command.check_id)
        if before is None:
            return _unknown_check(command)
        self.checks.reported_at(self.revision).append(
            (command.service, command.id, command.node, command.check_id)
        )
        output = cut_output(command.output)
        if before.status != command.status:
            state = structs.replace(
                before, status=command.status, output=output, since_ms=self.now_ms
            )
        elif before.output != output:
            state = structs.replace(before, output=output)
        else:
            return 0
        self._set_states(command.node, record, states, state)
        return 0

    def _reap_check(self, command: ReapCheck) -> Outcome:
        state = self.checks.find((command.service, command.id), "", command.check_id)
        if state is None or (state.status, state.since_ms) != ("critical", command.since_ms):
            return 0
        service = self._services[command.service]
        self._remove(
            service, service.records[command.id], f"check {state.check.id!r} stayed critical"
        )
        return 1

    def _put_node(self, command: PutNode) -> Outcome:
        entry = command.entry
        if not entry.name:
            return Refused(Invalid.code, "node: the empty name stands for no node: give one")
        before = self.nodes.entries.get(entry.name)
        if before is None and len(self.nodes.entries) >= NODES_MAX:
            return Refused(
                Invalid.code, f"node: {NODES_MAX} are registered, and no more may be: drop some"
            )
        if before is None or structs.replace(entry, revision=before.revision) != before:
            self.nodes.entries[entry.name] = structs.replace(entry, revision=self.revision)
            self._touch_node(entry.name)
        return 0

    def _drop_node(self, command: DropNode) -> Outcome:
        """Its instances stay, and lose its checks; the holders on it end."""
        name = command.node
        if name not in self.nodes.entries and name not in self.checks.nodes:
            return Refused(
                UnknownNode.code,
                f"node: {name!r} is not registered and has no checks: it is gone, or never was",
            )
        if name in self.checks.nodes:
            self._set_of_node(name, ())
        if self.nodes.entries.pop(name, None) is not None:
            self._touch_node(name)
            for holder in self.keyspace.holders.all():
                if holder.node == name:
                    self._close_holder(holder.id)
        return 0

    # What those are made of

    def _owner(self, command: PutCheck | DropCheck | ReportCheck) -> Record | Refused | None:
        """Find the instance whose check it is; None stands for a node."""
        if bool(command.service) == bool(command.node):
            return Refused(
                Invalid.code,
                "check: it belongs to an instance (service and id) or to a node: name one of the "
                "two",
            )
        if command.node:
            return None
        service = self._services.get(command.service)
        if service is None:
            return Refused(
                UnknownService.code,
                f"service: {command.service!r} has no instance: register one first, or check the "
                "name",
            )
        record = service.records.get(command.id)
        if record is None:
            return Refused(
                UnknownInstance.code,
                f"id: {command.service!r} has no instance {command.id!r}: register it first, then "
                "its checks",
            )
        return record

    def _states(self, node: NodeName, record: Record | None) -> States:
        if record is None:
            return self.checks.of_node(node)
        return self.checks.own((record.instance.service, record.instance.id))

    def _set_states(
        self, node: NodeName, record: Record | None, states: States, state: CheckState
    ) -> None:
        states = with_state(states, structs.replace(state, revision=self.revision))
        if record is None:
            self._set_of_node(node, states)
        else:
            self._set_own(record, states)

    def _set_own(self, record: Record, states: States) -> None:
        key = record.instance.service, record.instance.id
        held = self.checks.instances.get(key) or _declared(record)
        self._set_both(record, held, states)

    def _set_both(self, record: Record, declared: Held, states: States) -> None:
        """Give an instance that declares this these checks of its own."""
        instance = record.instance
        key = instance.service, instance.id
        if states != self.checks.own(key):
            self._touch(instance.service)
        health, why = self.checks.replace(key, instance.node, declared, states)
        self._show(record, health, why)
        if self.keyspace.holders.dependent:
            self._doubt_holders(instance.node)

    def _set_of_node(self, node: NodeName, states: States) -> None:
        self.checks.replace_of_node(node, states)
        self._touch_node(node, of_entry=False)
        for key in self.nodes.on(node):
            record = self._services[key[0]].records[key[1]]
            held = self.checks.instances.get(key) or _declared(record)
            self._show(record, *self.checks.declare(key, node, held.declared, held.why))
        if self.keyspace.holders.dependent:
            self._doubt_holders(node)

    def _show(self, record: Record, health: Health, why: str) -> None:
        """Put a record anew if its checks changed what it shows."""
        if record.suspect and not why:  # then why it is suspect is what there is to say
            why = record.why if health == record.health else WHY_CONNECTION_LOST
        if health == record.health and why == record.why:
            return
        shown = Record(
            record.instance,
            health,
            record.since_ms if health == record.health else self.now_ms,
            why,
            record.suspect,
            record.session,
            self.revision,
        )
        self._put(self._services[record.instance.service], record, shown)

    def _touch_node(self, node: NodeName, *, of_entry: bool = True) -> None:
        for name in dict.fromkeys(service for service, _ in self.nodes.on(node)):
            self.checks.revisions[name] = self.revision
            self._rechecked[name] = None
        if of_entry:
            self.nodes.revision = self.revision
        else:
            self.checks.revision = self.revision
        self._rechecked[""] = None


def _find(states: States, check_id: str) -> CheckState | None:
    return next((state for state in states if state.check.id == check_id), None)


def _declared(record: Record) -> Held:
    """What an instance declares that had no checks so far: what it shows."""
    why = "" if record.why == WHY_CONNECTION_LOST else record.why
    return Held(record.health, why, ())


def _shown(command: PutCheck | DropCheck | ReportCheck) -> str:
    if command.node:
        return f"node {command.node!r}"
    return f"instance {command.id!r} of {command.service!r}"


def _unknown_check(command: DropCheck | ReportCheck) -> Refused:
    return Refused(
        UnknownCheck.code,
        f"check: {_shown(command)} has no check {command.check_id!r}: it is gone, or was never "
        "put there",
    )
