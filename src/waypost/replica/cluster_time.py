"""Cluster time: the one clock of the log, in milliseconds, told by whoever leads.

It continues from the highest stamp applied, plus the leader's own elapsed monotonic time.  So no
two machines' clocks are ever compared, time never runs backwards, and it stands still while nobody
leads: an outage costs no lease.  The offset is taken anew only when a leadership begins; taking it
at each apply would lose the replication delay every time.
"""


class ClusterTime:
    """The stamps of one leadership.

    Invariant: ``stamp`` never decreases, whatever its argument does.
    """

    __slots__ = ("_base_ms", "_highest_ms", "_since_ns")

    def __init__(self, highest_applied_ms: int, now_ns: int) -> None:
        self._base_ms = highest_applied_ms
        self._since_ns = now_ns
        self._highest_ms = highest_applied_ms

    def stamp(self, now_ns: int) -> int:
        """Cluster time now, for ``now_ns`` of this process's monotonic clock."""
        stamp = self._base_ms + (now_ns - self._since_ns) // 1_000_000
        self._highest_ms = max(self._highest_ms, stamp)
        return self._highest_ms
