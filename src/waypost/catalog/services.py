"""One service: its instances, those of them that wait for eviction, and its eviction guard."""

from waypost.catalog.eviction import Bucket
from waypost.model import InstanceId, Record, Revision, ServiceName


def is_orphan(record: Record) -> bool:
    """Whether its session is over and only the eviction guard keeps it.

    Only a session makes a suspect, so one without a session has lost it.
    """
    return record.suspect and not record.session


class Service:
    """What the catalog holds under one name.

    Invariants: ``orphans`` are exactly the records for which ``is_orphan`` holds, the one that has
    waited longest first; ``records`` is never empty between two entries.  Both orders are part of
    the state: a snapshot keeps them.
    """

    __slots__ = ("bucket", "name", "orphans", "records", "revision")

    def __init__(self, name: ServiceName) -> None:
        self.name = name
        self.records: dict[InstanceId, Record] = {}
        self.revision: Revision = 0
        """Of the latest change of any of its instances, one that is gone included."""
        self.orphans: dict[InstanceId, None] = {}
        self.bucket: Bucket | None = None

    def copy(self) -> "Service":
        """Copy it: its records and its bucket are immutable."""
        copy = Service(self.name)
        copy.records, copy.revision = dict(self.records), self.revision
        copy.orphans, copy.bucket = dict(self.orphans), self.bucket
        return copy
