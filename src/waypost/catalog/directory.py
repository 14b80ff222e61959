"""What the registry knows: services and their records, sessions, and what changed lately.

Reading it, keeping a revision of it while it goes on (``capture``), and the moves that commands are
made of: a record is put, doubted or removed, and each time watchers are told and captures warned.
What the commands mean is ``state``.
"""

from collections.abc import Iterator, Mapping
from typing import Self

from waypost.catalog.capture import Capture
from waypost.catalog.checks import Checks
from waypost.catalog.eviction import draw
from waypost.catalog.history import History
from waypost.catalog.holders import depends_on, session_of
from waypost.catalog.keyspace import Keyspace
from waypost.catalog.nodes import Nodes
from waypost.catalog.origins import Origins
from waypost.catalog.services import Service, is_orphan
from waypost.catalog.sessions import Session, Sessions, listed, shard_of
from waypost.checks import NodeName
from waypost.commands import CloseHolder, KeyCommand, OpenHolder, Outcome, Refused
from waypost.errors import Invalid
from waypost.model import (
    Change,
    ChangeKind,
    Health,
    Instance,
    InstanceId,
    Record,
    Revision,
    ServiceName,
    SessionId,
)

WHY_CONNECTION_LOST = "connection lost"


class Directory:
    """All that the registry knows, as of ``revision``.

    Invariants: the session of a record is open, and its ``held`` lists the record; no incarnation
    and no attachment is above ``serial``; ``orphans`` counts those of all services, and
    ``_orphaned`` has exactly the services with any.
    """

    def __init__(self, history: History | None = None) -> None:
        self.revision: Revision = 0
        """Index of the last entry applied."""
        self.now_ms = 0
        """Cluster time: the highest stamp applied."""
        self.serial = 0
        self.instance_count = 0
        self.orphans = 0
        """How many suspects have no session any more, and wait for a Sweep."""
        self.sessions = Sessions()
        self.keyspace = Keyspace()
        self.checks = Checks()
        self.nodes = Nodes()
        self.history = History() if history is None else history
        self._services: dict[ServiceName, Service] = {}
        self._orphaned: dict[ServiceName, Service] = {}
        self._changed: dict[ServiceName, list[Change]] = {}
        self._rechecked: dict[ServiceName, None] = {}
        self._captures: list[Capture] = []
        self._origins = Origins()

    # Reading

    def service(self, name: ServiceName) -> Mapping[InstanceId, Record] | None:
        """Show a service's records by id: a live view, good until the next ``apply``."""
        service = self._services.get(name)
        return None if service is None else service.records

    @property
    def service_count(self) -> int:
        """How many services have an instance."""
        return len(self._services)

    def service_names(self) -> list[ServiceName]:
        """List the services that have an instance, by name."""
        return sorted(self._services)

    def service_revision(self, name: ServiceName) -> Revision | None:
        """Tell the revision of a service's latest change; None if it has no instance."""
        service = self._services.get(name)
        return None if service is None else service.revision

    def session(self, session_id: SessionId) -> Session | None:
        """Look an open session up."""
        return self.sessions.find(session_id)

    def sessions_of(self, node: str) -> Iterator[Session]:
        """Go through the open sessions for which a node answers; ``apply`` may come in between."""
        return self.sessions.of_node(node)

    def held(self, session: Session) -> list[Record]:
        """List what a session keeps alive, by service and id."""
        return sorted(self._held(session), key=identity)

    def declared(self, record: Record) -> tuple[Health, str]:
        """Tell how an instance is without its checks, as its provider said or an operator, and why.

        A record shows the worst of this and of what its checks found.
        """
        held = self.checks.instances.get(identity(record))
        return (record.health, record.why) if held is None else (held.declared, held.why)

    def since(self, name: ServiceName, revision: Revision) -> list[Change] | None:
        """Tell a service's changes after a revision; None if some of them are forgotten."""
        service = self._services.get(name)
        if service is not None and service.revision <= revision:
            return []
        return self.history.since(name, revision)

    def since_all(self, revision: Revision) -> list[Change] | None:
        """Tell all changes after a revision; None if some of them are forgotten."""
        return self.history.since_all(revision)

    # Keeping a revision while the catalog goes on: see snapshots

    def capture(self) -> Capture:
        """Hold on to everything as it is now, until ``release``."""
        capture = Capture(
            self._services,
            self.sessions.shards,
            self._origins,
            self.checks,
            self.nodes,
            self.keyspace,
            self.now_ms,
        )
        self._captures.append(capture)
        self._origins.is_read = self.keyspace.keys.is_read = True
        return capture

    def release(self, capture: Capture) -> None:
        """Let go of a capture."""
        self._captures.remove(capture)
        self._origins.is_read = self.keyspace.keys.is_read = bool(self._captures)

    @classmethod
    def restored(
        cls,
        revision: Revision,
        now_ms: int,
        serial: int,
        services: dict[ServiceName, Service],
        sessions: Sessions,
        origins: Origins,
        keyspace: Keyspace,
        history: History,
        checks: Checks,
        nodes: Nodes,
    ) -> Self:
        """Build one around a state that was read back."""
        found = cls(history)
        found.revision = revision
        found.now_ms = now_ms
        found.serial = serial
        found.sessions = sessions
        found._origins = origins
        found.keyspace = keyspace
        found.checks = checks
        found.nodes = nodes
        found._services = services
        found._orphaned = {name: each for name, each in services.items() if each.orphans}
        found.orphans = sum(len(each.orphans) for each in services.values())
        found.instance_count = sum(len(each.records) for each in services.values())
        return found

    # What commands are made of

    def _held(self, session: Session) -> list[Record]:
        services = self._services
        found: dict[tuple[ServiceName, InstanceId], Record] = {}
        for key in listed(session):
            service = services.get(key[0])
            record = None if service is None else service.records.get(key[1])
            if record is not None and record.session == session.id:
                found[key] = record
        return list(found.values())

    def _close(self, session: Session) -> None:
        self._before_session(session)
        self.sessions.remove(session)
        if self.keyspace.holders:
            self.keyspace.session_closed(session.id, self.revision, self.now_ms)

    def _draw(self, service: Service, wanted: int) -> int:
        self._before_service(service)
        granted, service.bucket = draw(service.bucket, len(service.records), wanted, self.now_ms)
        return granted

    def _doubt(self, record: Record, suspect: bool, why: str, session_id: SessionId) -> None:
        service = self._services[record.instance.service]
        doubted = Record(
            record.instance,
            record.health,
            record.since_ms,
            why,
            suspect,
            session_id,
            self.revision,
        )
        self._put(service, record, doubted)

    def _put(self, service: Service, before: Record | None, record: Record) -> None:
        if self._captures:
            self._before_service(service)
        instance_id = record.instance.id
        if before is None:
            if not service.records:
                self._services[service.name] = service
            self.instance_count += 1
        elif before.suspect or record.suspect:
            was = is_orphan(before)
            if was != is_orphan(record):
                (self._drop_orphan if was else self._add_orphan)(service, instance_id)
        service.records[instance_id] = record
        self._tell("up" if before is None else "changed", service, record)

    def _remove(self, service: Service, record: Record, why: str) -> None:
        if self._captures:
            self._before_service(service)
        instance_id = record.instance.id
        if is_orphan(record):
            self._drop_orphan(service, instance_id)
        if record.instance.node or self.checks.revisions:
            self._forget(record.instance)
        del service.records[instance_id]
        self.instance_count -= 1
        if not service.records:
            del self._services[service.name]
            if self.checks.revisions:
                self.checks.revisions.pop(service.name, None)
        last = Record(
            record.instance,
            record.health,
            record.since_ms,
            why,
            record.suspect,
            record.session,
            self.revision,
        )
        self._tell("down", service, last)

    def _declare(
        self, instance: Instance, left: str, health: Health, why: str
    ) -> tuple[Health, str]:
        """Tell how an instance is that declares this, and was on the node ``left`` before."""
        key = instance.service, instance.id
        if instance.node != left:
            self.nodes.moved(key, left, instance.node)
            if left and self.keyspace.holders.dependent:
                self._doubt_holders(left)
        return self.checks.declare(key, instance.node, health, why)

    def _forget(self, instance: Instance) -> None:
        """An instance goes, and its checks with it."""
        key = instance.service, instance.id
        if instance.node:
            self.nodes.moved(key, instance.node, "")
        if self.checks.forget(key):
            self._touch(instance.service)
            if self.keyspace.holders.dependent:
                self._doubt_holders(instance.node)

    def _doubt_holders(self, node: NodeName) -> None:
        """Checks on a node changed: end the holders that depended on them."""
        holders = self.keyspace.holders
        for holder_id in list(holders.dependent.get(node, ())):
            holder = holders.find(holder_id)
            assert holder is not None, "whoever depends is open"
            if any(self._is_lost(node, check_id) for check_id in depends_on(holder)):
                self._close_holder(holder_id)

    def _is_lost(self, node: NodeName, check_id: str) -> bool:
        """Whether a check on a node, or on what runs there, is critical or gone."""
        found = self.checks.find(("", ""), node, check_id)
        if found is None:
            own = (self.checks.find(key, "", check_id) for key in self.nodes.on(node))
            found = next((state for state in own if state is not None), None)
        return found is None or found.status == "critical"

    def _close_holder(self, holder_id: str) -> int:
        closed = self.keyspace.close(holder_id, self.revision, self.now_ms)
        session = self.sessions.find(session_of(holder_id))
        if session is not None:
            self._close(session)
        return closed

    def _keyed(self, command: KeyCommand) -> Outcome:
        if isinstance(command, CloseHolder):
            return self._close_holder(command.id)
        has_session = False
        if isinstance(command, OpenHolder):
            has_session = self.sessions.find(session_of(command.id)) is not None
            lost = next((c for c in depends_on(command) if self._is_lost(command.node, c)), None)
            if lost is not None:
                return Refused(
                    Invalid.code,
                    f"checks: {lost!r} on node {command.node!r} is critical or is not there: a "
                    "holder lives with its checks, so leave it out, or see to it first",
                )
        return self.keyspace.apply(command, self.revision, self.now_ms, has_session=has_session)

    def _touch(self, name: ServiceName) -> None:
        """A check of one of its instances changed."""
        self.checks.revision = self.checks.revisions[name] = self.revision
        self._rechecked[name] = None

    def _add_orphan(self, service: Service, instance_id: InstanceId) -> None:
        service.orphans[instance_id] = None
        self._orphaned[service.name] = service
        self.orphans += 1

    def _drop_orphan(self, service: Service, instance_id: InstanceId) -> None:
        del service.orphans[instance_id]
        if not service.orphans:
            del self._orphaned[service.name]
        self.orphans -= 1

    def _tell(self, kind: ChangeKind, service: Service, record: Record) -> None:
        change = Change(self.revision, kind, record, self.now_ms)
        service.revision = self.revision
        changes = self._changed.get(service.name)
        if changes is None:
            self._changed[service.name] = [change]
        else:
            changes.append(change)

    def _before_service(self, service: Service) -> None:
        for capture in self._captures:
            capture.before_service(service)

    def _before_session(self, session: Session) -> None:
        for capture in self._captures:
            capture.before_shard(shard_of(session.id))


def identity(record: Record) -> tuple[ServiceName, InstanceId]:
    """Which record it is, over all of its lives."""
    return record.instance.service, record.instance.id
