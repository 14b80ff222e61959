"""What a registration does: an instance becomes known, is refreshed, or is taken over.

Two numbers are given out, the incarnation of a new life and the attachment of a session.  Both are
``max(serial + 1, index)``: the entry's index as a rule, one more for each further one of the same
entry, and never one that was given before.  ``serial`` is the highest so far, a claimed one
included: after a disaster, clients may know lives that the registry has lost.

One with checks is a command of its own: registrations without pay nothing for it, and it has no
moment at which the instance stands there without them.
"""

from collections.abc import Sequence

from msgspec import structs

from waypost.catalog.checking import CHECKS_MAX, Checking
from waypost.catalog.checks import Held, States
from waypost.catalog.history import History
from waypost.catalog.nodes import Key
from waypost.catalog.services import Service, is_orphan
from waypost.catalog.sessions import Session, pruned
from waypost.catalog.sharing import Pool
from waypost.checks import CHECKS_PER_OWNER_MAX, Check, CheckState, worst
from waypost.commands import Outcome, Refused, Register, RegisterChecked
from waypost.errors import Invalid, Superseded, UnknownSession
from waypost.model import (
    INSTANCES_PER_SERVICE_MAX,
    InstanceId,
    Record,
    ServiceName,
    SessionId,
)

INCARNATION_MAX = 2**53 - 1
"""That a client may claim: what JSON readers in every language tell apart (RFC 8259, 6)."""


class Registering(Checking):
    """The directory with its checks, and what registrations do to it."""

    def __init__(self, history: History | None = None) -> None:
        super().__init__(history)
        self._pool = Pool()

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
                return unknown_session(command.session)
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
                    return unknown_session(session_id)
                session_id = session.id
        life = given.incarnation
        if life == 0:
            same = before.session == session_id and not is_orphan(before)
            life = held.incarnation if same else self._next_serial()
        elif life < held.incarnation:
            return superseded(given.id, life, held.incarnation)
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

    def _register_checked(self, command: RegisterChecked) -> Outcome:
        given = command.register
        instance = given.instance
        key = instance.service, instance.id
        states = self.checks.own(key)
        count = self.checks.count - len(states) + len(command.checks)
        if len(command.checks) > CHECKS_PER_OWNER_MAX or count > CHECKS_MAX:
            return Refused(
                Invalid.code,
                f"checks: {len(command.checks)} for {instance.id!r}, at most "
                f"{CHECKS_PER_OWNER_MAX}, and {count} with all others, at most {CHECKS_MAX}: give "
                "fewer, or drop some first",
            )
        states = self._rechecked_states(key, states, command.checks)
        of_node = self.checks.of_node(instance.node)
        health, why = worst(given.health, given.why, (*states, *of_node))
        life = self._register(structs.replace(given, health=health, why=why))
        if isinstance(life, Refused):
            return life
        record = self._services[instance.service].records[instance.id]
        if record.health == "draining":
            declared = Held("draining", record.why, ())
        else:
            declared = Held(given.health, given.why, ())
        self._set_both(record, declared, states)
        return life

    def _rechecked_states(self, key: Key, states: States, checks: Sequence[Check]) -> States:
        """What is known of these checks: of those that look at the same, what was found."""
        known = {state.check.id: state for state in states}
        now: dict[str, CheckState] = {}
        for check in checks:
            state = known.get(check.id)
            if state is None or not _is_alike(state.check, check):
                state = CheckState(*key, "", check, "critical", "", self.now_ms, self.revision)
            elif state.check != check:
                state = structs.replace(state, check=check, revision=self.revision)
            now[check.id] = state
        return tuple(now[check_id] for check_id in sorted(now))

    # What those are made of

    def _next_serial(self) -> int:
        self.serial = max(self.serial + 1, self.revision)
        return self.serial

    def _take(self, session: Session, name: ServiceName, instance_id: InstanceId) -> None:
        session.held.extend((name, instance_id))
        if len(session.held) > session.held_room:
            self.sessions.put(pruned(session, self._held(session)))


def unknown_session(session_id: SessionId) -> Refused:
    """Refuse what names a session that is not there."""
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


def superseded(instance_id: InstanceId, asked: int, held: int) -> Refused:
    """Refuse an earlier life what is said of a later one."""
    return Refused(
        Superseded.code,
        f"incarnation: {instance_id!r} is held by {held}, newer than {asked}: stand down, or "
        "register without an incarnation to take it over",
    )


def _is_alike(one: Check, other: Check) -> bool:
    """Whether what one found says how the other is."""
    return (one.kind, one.target) == (other.kind, other.target)
