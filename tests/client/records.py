"""Records for tests of the client."""

from waypost.model import Change, ChangeKind, Health, Instance, Record


def record(
    instance_id: str,
    *,
    service: str = "orders",
    port: int = 80,
    health: Health = "passing",
    suspect: bool = False,
    incarnation: int = 1,
    revision: int = 1,
    host: str = "10.0.0.1",
) -> Record:
    instance = Instance(service, instance_id, host, port, incarnation=incarnation)
    return Record(instance, health, 0, "", suspect, "session", revision)


def change(revision: int, kind: ChangeKind, of: Record) -> Change:
    return Change(revision, kind, of, 1000 + revision)
