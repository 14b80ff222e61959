"""Least response time: of two instances drawn at random, the one that should answer sooner.

The expected answer of an instance takes its estimated response time for each call that is already
open there, and for the new one: ``estimate * (in_flight + 1)``.  Always true of a pick: the worse
of the two that were drawn is never chosen; so no instance gets more than twice its fair share,
however good it looks.  That is why it is two and never the best of all: the best of all is where
every consumer goes at once, and an instance that fails within a millisecond looks like it.

The two are distinct; drawn with replacement, of two instances the busier one would be taken in a
quarter of the picks.  A tie goes to the first draw, which is random too.

Weights, apart from 0 which drains, play no part.

Source: Mitzenmacher, The Power of Two Choices in Randomized Load Balancing (IEEE TPDS 12, 2001)
and How Useful Is Old Information? (IEEE TPDS 11, 2000); the load measure is that of the peak EWMA
balancers of Finagle and linkerd.
"""

from collections.abc import Sequence

from waypost.balance.endpoint import Endpoint
from waypost.balance.policy import Chance


class LeastResponseTime:
    """Picks the better one of two."""

    __slots__ = ("_endpoints", "_random")

    def __init__(self, random: Chance) -> None:
        self._random = random
        self._endpoints: tuple[Endpoint, ...] = ()

    def replace(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Draw from these from now on."""
        self._endpoints = endpoints

    def pick(self) -> Endpoint:
        """The better of two of them."""
        return self.choose(self._endpoints)

    def choose(self, endpoints: Sequence[Endpoint]) -> Endpoint:
        """The better of two of these; a single one is its own rival."""
        n = len(endpoints)
        # One of the n * (n - 1) ordered pairs: the second stands 1 to n - 1 places before the
        # first, around the end.
        pair = int(self._random() * (n * (n - 1)))
        i = pair % n
        a = endpoints[i]
        b = endpoints[i - 1 - pair // n]
        return a if a.cost * (a.in_flight + 1) <= b.cost * (b.in_flight + 1) else b
