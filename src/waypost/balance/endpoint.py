"""One instance as one consumer sees it: its record, its open calls and how fast it seems to be.

Always true: ``in_flight`` is the number of calls that were started and neither finished nor
abandoned; ``cost`` is positive.  An endpoint lives as long as its instance stays registered in the
same incarnation: through changes of health, weight and address it keeps what has been learnt, while
a process that was started anew under the same id is judged afresh.

Compared by identity, and changed only by the pool that made it.
"""

from waypost.model import Instance, InstanceId, Record


class Endpoint:
    """A registered instance and what this consumer has learnt of it."""

    __slots__ = ("cost", "ewma_ns", "has_failed", "id", "in_flight", "record", "sampled_at_ns")

    def __init__(self, record: Record) -> None:
        self.id: InstanceId = record.instance.id
        self.record = record
        self.in_flight = 0
        self.has_failed = False
        """Whether the latest call did."""
        self.ewma_ns = 0.0
        """The estimated response time when the latest call finished; 0 until one has."""
        self.sampled_at_ns: int | None = None
        """When that was, by the time of ``Latency``; None while ``cost`` is a guess."""
        self.cost = 1.0
        """The estimate in the unit of ``Latency``: only to be compared with other costs."""

    @property
    def instance(self) -> Instance:
        """What its provider declares of it: host, port, zone, tags and the rest."""
        return self.record.instance

    def __repr__(self) -> str:
        ms = self.ewma_ns / 1e6
        return f"Endpoint({self.id!r}, in_flight={self.in_flight}, ewma_ms={ms:.3g})"
