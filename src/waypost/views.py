"""What JSON shows of an instance, over HTTP and on the command line: names instead of positions.

Every field is always there.  Knows no door and no protocol.
"""

import msgspec

from waypost.model import Health, InstanceId, Record, Revision, ServiceName


class InstanceView(msgspec.Struct, frozen=True, gc=False):
    """An instance and what the registry knows about it, as JSON shows it: every field, always."""

    id: InstanceId
    service: ServiceName
    host: str
    port: int
    weight: float | None
    zone: str
    version: str
    tags: tuple[str, ...]
    meta: dict[str, str]
    ports: dict[str, int]
    incarnation: int
    node: str
    health: Health
    since_ms: int
    why: str
    suspect: bool
    session: str
    revision: Revision


def instance_view(record: Record) -> InstanceView:
    """Make a record's JSON form."""
    instance = record.instance
    return InstanceView(
        id=instance.id,
        service=instance.service,
        host=instance.host,
        port=instance.port,
        weight=instance.weight,
        zone=instance.zone,
        version=instance.version,
        tags=instance.tags,
        meta=instance.meta,
        ports=instance.ports,
        incarnation=instance.incarnation,
        node=instance.node,
        health=record.health,
        since_ms=record.since_ms,
        why=record.why,
        suspect=record.suspect,
        session=record.session,
        revision=record.revision,
    )
