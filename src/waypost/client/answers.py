"""What the registry answers, and how fresh that is."""

import msgspec

from waypost.model import Instance, Record, Revision, Source
from waypost.wire import ServiceSummary


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The instances of a service, and how fresh that is."""

    records: tuple[Record, ...]
    revision: Revision
    age: float
    """Seconds that it may be behind."""
    source: Source
    """``leader`` or ``follower``; ``cache`` or ``disk`` if no registry could be reached."""

    @property
    def instances(self) -> tuple[Instance, ...]:
        """The instances, without what the registry knows about them."""
        return tuple(record.instance for record in self.records)


class ServiceList(msgspec.Struct, frozen=True, gc=False):
    """Every service, in numbers, and how fresh that is."""

    services: tuple[ServiceSummary, ...]
    revision: Revision
    age: float
    source: Source
