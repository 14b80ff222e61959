"""A catalog with a log in front of it: give it commands, it numbers the entries."""

from waypost.catalog.state import Applied, Catalog
from waypost.checks import SEVERITIES
from waypost.commands import (
    Attach,
    Command,
    LogBatch,
    Outcome,
    Refused,
    decode_batch,
    encode_batch,
    encode_part,
)
from waypost.model import Change, Instance, Record


def instance(
    instance_id: str = "i-1",
    service: str = "orders",
    *,
    incarnation: int = 0,
    port: int = 8080,
    weight: float | None = None,
    zone: str = "",
    version: str = "",
    tags: tuple[str, ...] = (),
    meta: dict[str, str] | None = None,
    node: str = "",
) -> Instance:
    return Instance(
        service,
        instance_id,
        "10.0.0.1",
        port,
        weight=weight,
        zone=zone,
        version=version,
        tags=tags,
        meta=meta or {},
        incarnation=incarnation,
        node=node,
    )


class Feed:
    """Applies commands to a catalog, each call as one entry, and keeps what came of the last."""

    def __init__(self, catalog: Catalog | None = None) -> None:
        self.catalog = Catalog() if catalog is None else catalog
        self.now_ms = max(1_000, self.catalog.now_ms)
        self.last = Applied([], {})
        self.log: list[LogBatch] = []

    def apply(self, *commands: Command, later_ms: int = 0) -> list[Outcome]:
        """Apply one entry with one part, ``later_ms`` after the one before."""
        self.now_ms += later_ms
        batch = decode_batch(encode_batch(self.now_ms, [encode_part(list(commands))]))
        self.log.append(batch)
        self.last = self.catalog.apply(self.catalog.revision + 1, batch)
        return self.last.outcomes[0]

    def one(self, command: Command, later_ms: int = 0) -> int:
        """Apply one command that must not be refused."""
        outcome = self.apply(command, later_ms=later_ms)[0]
        assert isinstance(outcome, int), outcome
        return outcome

    def refused(self, command: Command) -> Refused:
        """Apply one command that must be refused, and change nothing."""
        outcome = self.apply(command)[0]
        assert isinstance(outcome, Refused), outcome
        assert not self.last.changed
        return outcome

    def attach(self, session: str = "s-1", node: str = "n-1") -> int:
        return self.one(Attach(session, node, 10_000, 2_000))

    @property
    def changes(self) -> list[Change]:
        """What the last entry changed."""
        return [change for changes in self.last.changed.values() for change in changes]

    def record(self, instance_id: str = "i-1", service: str = "orders") -> Record:
        records = self.catalog.service(service)
        assert records is not None
        return records[instance_id]

    def ids(self, service: str = "orders") -> list[str]:
        return sorted(self.catalog.service(service) or ())


def check_invariants(catalog: Catalog) -> None:
    """Recount everything that the catalog keeps count of."""
    services = catalog._services
    instances = orphans = 0
    held: dict[str, list[tuple[str, str]]] = {}
    for name, service in services.items():
        assert service.name == name
        assert service.records
        assert 0 < service.revision <= catalog.revision
        instances += len(service.records)
        found: list[str] = []
        for instance_id, record in service.records.items():
            assert (record.instance.service, record.instance.id) == (name, instance_id)
            assert 0 < record.instance.incarnation <= catalog.serial
            assert 0 < record.revision <= service.revision
            assert record.since_ms <= catalog.now_ms
            if record.session:
                held.setdefault(record.session, []).append((name, instance_id))
            elif record.suspect:
                found.append(instance_id)
        assert sorted(found) == sorted(service.orphans)
        assert (name in catalog._orphaned) == bool(found)
        orphans += len(found)
        if service.bucket is not None:
            assert 0 <= service.bucket.level < service.bucket.capacity * 30_000
    assert set(catalog._orphaned) <= set(services)
    assert catalog.instance_count == instances
    assert catalog.orphans == orphans
    assert len(catalog.sessions) == sum(1 for _ in catalog.sessions)
    by_node: dict[str, set[str]] = {}
    for session in catalog.sessions:
        by_node.setdefault(session.node, set()).add(session.id)
    for node in catalog.sessions._by_node:
        of_node = [session.id for session in catalog.sessions_of(node)]
        assert len(of_node) == len(set(of_node))
        assert set(of_node) == by_node.pop(node, set())
    assert not by_node
    for session in catalog.sessions:
        assert catalog.session(session.id) is session
        assert session.attachment <= catalog.serial
        assert len(session.held) <= session.held_room + 2
        listed = [(each.instance.service, each.instance.id) for each in catalog.held(session)]
        assert listed == sorted(held.pop(session.id, []))
    assert not held
    for _, window in catalog._origins.windows():
        seqs = [seq for seq in list(window)[::3] if isinstance(seq, int)]
        assert 3 * len(seqs) == len(window)
        assert 0 < len(seqs) <= 16
        assert seqs == sorted(set(seqs))
    _check_checks(catalog)
    bulk = sum(len(outcomes) + 8 for _, outcomes in catalog._origins.bulk())
    assert catalog._origins._bulk_count == bulk


def _check_checks(catalog: Catalog) -> None:
    checks, nodes = catalog.checks, catalog.nodes
    on: dict[str, list[tuple[str, str]]] = {}
    concerned: list[tuple[str, str]] = []
    for name in catalog.service_names():
        for instance_id, record in (catalog.service(name) or {}).items():
            node = record.instance.node
            if node:
                on.setdefault(node, []).append((name, instance_id))
            of_node = checks.of_node(node) if node else ()
            own = checks.own((name, instance_id))
            if own or of_node:
                concerned.append((name, instance_id))
                declared = checks.instances[name, instance_id].declared
                every = [declared, *(state.status for state in (*own, *of_node))]
                assert record.health == max(every, key=SEVERITIES.__getitem__)
    assert sorted(checks.instances) == sorted(concerned)
    assert {node: nodes.on(node) for node in nodes._on} == {
        node: sorted(keys) for node, keys in on.items()
    }
    owners = [held.checks for held in checks.instances.values()] + list(checks.nodes.values())
    assert checks.count == sum(map(len, owners))
    for states in owners:
        ids = [state.check.id for state in states]
        assert ids == sorted(set(ids))
        assert all(0 < state.revision <= checks.revision for state in states)
        assert all(state.since_ms <= catalog.now_ms for state in states)
    assert all(checks.nodes.values())
    assert set(checks.revisions) <= set(catalog.service_names())
    assert all(moved <= catalog.revision for moved in checks.revisions.values())
