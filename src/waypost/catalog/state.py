"""What each command does to what the registry knows.

``Catalog.apply`` is the only mutator, and it is total: whatever decodes as a command has an
outcome, and a refusal is one.  Entries come in order of their index; an entry's index is the
revision of all that it changes.

Two numbers are given out, the incarnation of a new life and the attachment of a session.  Both are
``max(serial + 1, index)``: the entry's index as a rule, one more for each further one of the same
entry, and never one that was given before.  ``serial`` is the highest so far, a claimed one
included: after a disaster, clients may know lives that the registry has lost.

A record leaves the catalog in one of three ways: deregistered, with its session, or evicted.  Only
eviction is held back by the guard (``eviction``), because only eviction is a guess.

Knows no clock: time is the highest stamp applied so far.
"""

from itertools import islice

import msgspec

from waypost.catalog.directory import WHY_CONNECTION_LOST, identity
from waypost.catalog.history import History
from waypost.catalog.keyspace import Touched
from waypost.catalog.services import Service, is_orphan
from waypost.catalog.sessions import HELD_ROOM_MIN, Session, pruned
from waypost.catalog.sharing import Pool
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
    SetHealth,
    Suspect,
    Sweep,
    Transact,
)
from waypost.errors import Invalid, Superseded, UnknownInstance, UnknownService, UnknownSession
from waypost.model import (
    INSTANCES_PER_SERVICE_MAX,
    Change,
    InstanceId,
    Record,
    Revision,
    ServiceName,
    SessionId,
)

INCARNATION_MAX = 2**53 - 1
"""That a client may claim: what JSON readers in every language tell apart (RFC 8259, 6)."""

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

    def __init__(self, history: History | None = None) -> None:
        super().__init__(history)
        self._pool = Pool()

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
            case _:
                if isinstance(command, KeyCommand | Transact):
                    return self._keyed(command)
                return self._check(command)

    def _register(self, command: Register) -> Outcome:
        given = command.instance
        service = self._services.get(given.service)
        if service is None:
            service = Service(given.service)
        before = service.records.get(given.id)
        if before is not None:
            return self._register_again(command, service, before)
        session: Session | None = None
        if command.session:
            session = self.sessions.find(command.session)
            if session is None:
                return _unknown_session(command.session)
        if len(service.records) >= INSTANCES_PER_SERVICE_MAX:
            return Refused(
                Invalid.code,
                f"service: {given.service!r} has {INSTANCES_PER_SERVICE_MAX} instances, and may "
                "have no more: split it into several services",
            )
        life = given.incarnation
        if life == 0:
            life = self._next_serial()
        elif not 0 < life <= self.serial:
            if not 0 < life <= INCARNATION_MAX:
                return _impossible(life)
            self.serial = life
        given = self._pool.share(given, service.name, given.id, life)
        health, why = command.health, command.why
        if given.node:
            health, why = self._declare(given, "", health, why)
        self._put(
            service,
            None,
            Record(
                given,
                health,
                self.now_ms,
                why,
                False,
                "" if session is None else session.id,
                self.revision,
            ),
        )
        if session is not None:
            self._take(session, service.name, given.id)
        return life

    def _register_again(self, command: Register, service: Service, before: Record) -> Outcome:
        given, held = command.instance, before.instance
        session_id, session = before.session, None
        if command.session != session_id:  # or it is open, because a record has it
            session_id = command.session
            if session_id:
                session = self.sessions.find(session_id)
                if session is None:
                    return _unknown_session(session_id)
                session_id = session.id
        life = given.incarnation
        if life == 0:
            same = before.session == session_id and not is_orphan(before)
            life = held.incarnation if same else self._next_serial()
        elif life < held.incarnation:
            return _superseded(given.id, life, held.incarnation)
        elif life > self.serial:
            if life > INCARNATION_MAX:
                return _impossible(life)
            self.serial = life
        if life != given.incarnation or given != held:
            given = self._pool.share_again(given, held, life)
        if given == held:
            given = held
        health, why, since_ms = command.health, command.why, self.now_ms
        if before.health == "draining" and life == held.incarnation:
            # A provider that comes back does not undo the drain that an operator asked for.
            health, why = "draining", before.why
        if given.node or held.node or self.checks.instances:
            health, why = self._declare(given, held.node, health, why)
        if health == before.health:
            since_ms = before.since_ms
            if (
                given is held
                and session_id == before.session
                and why == before.why
                and not before.suspect
            ):
                return life
        self._put(
            service,
            before,
            Record(given, health, since_ms, why, False, session_id, self.revision),
        )
        if session is not None:
            self._take(session, service.name, held.id)
        return life

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
            return _unknown_session(command.session)
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

    def _next_serial(self) -> int:
        self.serial = max(self.serial + 1, self.revision)
        return self.serial

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
            return _superseded(instance_id, incarnation, held)
        return Refused(
            UnknownInstance.code,
            f"incarnation: {instance_id!r} is at {held}, and not yet at {incarnation}: name the "
            "one that its registration gave, or none",
        )

    def _take(self, session: Session, name: ServiceName, instance_id: InstanceId) -> None:
        session.held.extend((name, instance_id))
        if len(session.held) > session.held_room:
            self.sessions.put(pruned(session, self._held(session)))


def _unknown_session(session_id: SessionId) -> Refused:
    return Refused(
        UnknownSession.code,
        f"session: {session_id!r} is not open, it ended or never was: open one, then register",
    )


def _impossible(incarnation: int) -> Refused:
    return Refused(
        Invalid.code,
        f"incarnation: {incarnation} is outside 1 to {INCARNATION_MAX}: leave it out to get a new "
        "one",
    )


def _superseded(instance_id: InstanceId, asked: int, held: int) -> Refused:
    return Refused(
        Superseded.code,
        f"incarnation: {instance_id!r} is held by {held}, newer than {asked}: stand down, or "
        "register without an incarnation to take it over",
    )
