"""Round robin: in turn, in the order of their ids.

Any n consecutive picks from a stable set of n instances hold each exactly once.  When the set
changes, the next pick is the successor of the last one picked: starting over at the first instance
with every change would send those with low ids more than their share.  Where the first pick of
all falls is left to chance, so that consumers started together do not walk in step.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import cycle

from waypost.balance.endpoint import Endpoint
from waypost.balance.policy import Chance


class RoundRobin:
    """Picks each in its turn."""

    __slots__ = ("_last", "_next", "_random")

    _next: Callable[[], Endpoint]

    def __init__(self, random: Chance) -> None:
        self._random = random
        self._last: Endpoint | None = None

    def replace(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Go on after the last one picked."""
        if self._last is None:
            start = int(self._random() * len(endpoints))
        else:
            start = bisect_right(endpoints, self._last.id, key=lambda endpoint: endpoint.id)
        self._next = cycle(endpoints[start:] + endpoints[:start]).__next__

    def pick(self) -> Endpoint:
        """The next one."""
        self._last = endpoint = self._next()
        return endpoint

    def choose(self, endpoints: Sequence[Endpoint]) -> Endpoint:
        """Any of these; whose turn it is does not change."""
        return endpoints[int(self._random() * len(endpoints))]
