"""Marks: how often the runs came to a situation that they are meant to reach.

A simulator that never gets into trouble finds nothing; what was not reached was not tested (the
coverage marks of TigerBeetle).
"""


class Marks:
    """Named counters."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def hit(self, name: str, times: int = 1) -> None:
        """Count one more."""
        self.counts[name] = self.counts.get(name, 0) + times

    def add(self, counts: dict[str, int]) -> None:
        """Count what others counted."""
        for name, times in counts.items():
            self.hit(name, times)
