"""What each command does to what the registry knows.

``Catalog.apply`` is the only mutator, and it is total: whatever decodes as a command has an
outcome, and a refusal is one.  Entries come in order of their index; an entry's index is the
revision of all that it changes.

A record leaves the catalog in one of three ways: deregistered, with its session, or evicted.  Only
eviction is held back by the guard (``eviction``), because only eviction is a guess.

Knows no clock: time is the highest stamp applied so far.
"""

from itertools import islice

import msgspec

from waypost.catalog.directory import WHY_CONNECTION_LOST, identity
from waypost.catalog.keyspace import Touched
from waypost.catalog.registering import superseded, unknown_session
from waypost.catalog.services import Service
from waypost.catalog.sessions import HELD_ROOM_MIN, Session
from waypost.catalog.transacting import Transacting
from waypost.commands import (
    Attach,
    Command,
    Deregister,
    Detach,
    Expire,
    KeyCommand,
    LogBatch,
    Outcome,
    Refused,
    Register,
    RegisterChecked,
    SetHealth,
    Suspect,
    Sweep,
    Transact,
)
from waypost.errors import Invalid, UnknownInstance, UnknownService
from waypost.model import (
    Change,
    InstanceId,
    Record,
    Revision,
    ServiceName,
)

WHY_DEREGISTERED = "deregistered"
WHY_SESSION_ENDED = "session ended"
WHY_LEASE_EXPIRED = "lease expired"
WHY_SWEPT = "lease expired; eviction was rate-limited"


class Applied(msgspec.Struct, frozen=True):
    """What came of one entry."""

    outcomes: list[list[Outcome]]
    """Parallel to the parts of the batch."""
    changed: dict[ServiceName, list[Change]]
    """What watchers are told, in order."""
    repeated: dict[int, Revision] = {}
    """Of the parts that an earlier entry had too, by their number: its revision."""
    touched: Touched | None = None
    """Which keys, if any."""
    rechecked: list[ServiceName] = []
    """Of which services a check changed, or a node; the empty name stands for a node itself."""


class Catalog(Transacting):
    """The directory, and what commands do to it."""

    def apply(self, index: int, batch: LogBatch) -> Applied:
        """Apply the entry at ``index``."""
        assert index > self.revision, (index, self.revision)
        self.revision = index
        self.now_ms = max(self.now_ms, batch.stamp_ms)
        changed: dict[ServiceName, list[Change]] = {}
        self._changed = changed
        self._pool.trim()
        repeated: dict[int, Revision] = {}
        if batch.origins:
            outcomes, repeated = self._origins.apply(index, batch, self._run)
        else:
            outcomes = [self._run(part) for part in batch.parts]
        for name, changes in changed.items():
            self.history.extend(name, changes)
        touched, self.keyspace.touched = self.keyspace.touched, None
        rechecked, self._rechecked = list(self._rechecked), {}
        return Applied(outcomes, changed, repeated, touched, rechecked)

    def _run(self, part: list[Command]) -> list[Outcome]:
        register, other = self._register, self._other
        if len(part) == 1:  # as most have
            command = part[0]
            return [register(command) if type(command) is Register else other(command)]
        return [register(each) if type(each) is Register else other(each) for each in part]

    def _other(self, command: Command) -> Outcome:
        match command:
            case SetHealth():
                return self._set_health(command)
            case Deregister():
                return self._deregister(command)
            case Attach():
                return self._attach(command)
            case Detach():
                return self._detach(command)
            case Suspect():
                return self._suspect(command)
            case Expire():
                return self._expire(command)
            case Sweep():
                return self._sweep()
            case Register():
                return self._register(command)
            case RegisterChecked():
                return self._register_checked(command)
            case _:
                if isinstance(command, KeyCommand | Transact):
                    return self._keyed(command)
                return self._check(command)

    def _set_health(self, command: SetHealth) -> Outcome:
        found = self._find(command.service, command.id, command.incarnation)
        if isinstance(found, Refused):
            return found
        service, before = found
        health, why, since_ms = command.health, command.why, self.now_ms
        if self.checks.instances:
            health, why = self._declare(before.instance, before.instance.node, health, why)
        if health == before.health:
            if why == before.why:
                return 0
            since_ms = before.since_ms
        record = Record(
            before.instance,
            health,
            since_ms,
            why,
            before.suspect,
            before.session,
            self.revision,
        )
        self._put(service, before, record)
        return 0

    def _deregister(self, command: Deregister) -> Outcome:
        found = self._find(command.service, command.id, command.incarnation)
        if isinstance(found, Refused):
            return found
        self._remove(*found, WHY_DEREGISTERED)
        return 0

    def _attach(self, command: Attach) -> Outcome:
        if not command.session:
            return Refused(
                Invalid.code,
                "session: empty, which stands for permanent instances: give it an id",
            )
        before = self.sessions.find(command.session)
        session = Session(
            command.session if before is None else before.id,
            self._pool.text(command.node),
            self._next_serial(),
            self._pool.number(command.ttl_ms),
            self._pool.number(command.grace_ms),
            [] if before is None else before.held,
            HELD_ROOM_MIN if before is None else before.held_room,
        )
        self._before_session(session)
        self.sessions.put(session)
        if before is not None:
            doubted = [record for record in self._held(session) if record.suspect]
            for record in sorted(doubted, key=identity):
                why = "" if record.why == WHY_CONNECTION_LOST else record.why
                self._doubt(record, False, why, session.id)
        return session.attachment

    def _detach(self, command: Detach) -> Outcome:
        session = self.sessions.find(command.session)
        if session is None:
            return unknown_session(command.session)
        for record in self.held(session):
            self._remove(self._services[record.instance.service], record, WHY_SESSION_ENDED)
        self._close(session)
        return 0

    def _suspect(self, command: Suspect) -> Outcome:
        """Yield how many became suspect."""
        session = self.sessions.find(command.session)
        if session is None or session.attachment != command.attachment:
            return 0
        trusted = [record for record in self.held(session) if not record.suspect]
        for record in trusted:
            self._doubt(record, True, record.why or WHY_CONNECTION_LOST, session.id)
        return len(trusted)

    def _expire(self, command: Expire) -> Outcome:
        """Yield how many were evicted; the others of the session became orphans."""
        session = self.sessions.find(command.session)
        if session is None or session.attachment != command.attachment:
            return 0
        by_service: dict[ServiceName, list[Record]] = {}
        for record in self.held(session):
            by_service.setdefault(record.instance.service, []).append(record)
        reason = command.why or WHY_LEASE_EXPIRED
        evicted = 0
        for name, records in by_service.items():
            service = self._services[name]
            # Those that wait already go first, at the next Sweep.
            granted = 0 if service.orphans else self._draw(service, len(records))
            for record in records[:granted]:
                self._remove(service, record, reason)
            for record in records[granted:]:
                says_more = record.why and record.why != WHY_CONNECTION_LOST
                self._doubt(record, True, record.why if says_more else reason, "")
            evicted += granted
        self._close(session)
        return evicted

    def _sweep(self) -> Outcome:
        """Yield how many were evicted."""
        evicted = 0
        for name in sorted(self._orphaned):
            service = self._orphaned[name]
            granted = self._draw(service, len(service.orphans))
            for instance_id in list(islice(service.orphans, granted)):
                self._remove(service, service.records[instance_id], WHY_SWEPT)
            evicted += granted
        return evicted

    # What commands are made of

    def _find(
        self, name: ServiceName, instance_id: InstanceId, incarnation: int
    ) -> tuple[Service, Record] | Refused:
        """Find an instance, in that life of it if one is named."""
        service = self._services.get(name)
        if service is None:
            return Refused(
                UnknownService.code,
                f"service: {name!r} has no instance: register one first, or check the name",
            )
        record = service.records.get(instance_id)
        if record is None:
            return Refused(
                UnknownInstance.code,
                f"id: {name!r} has no instance {instance_id!r}: it is gone, or was never "
                "registered",
            )
        held = record.instance.incarnation
        if not incarnation or incarnation == held:
            return service, record
        if incarnation < held:
            return superseded(instance_id, incarnation, held)
        return Refused(
            UnknownInstance.code,
            f"incarnation: {instance_id!r} is at {held}, and not yet at {incarnation}: name the "
            "one that its registration gave, or none",
        )
