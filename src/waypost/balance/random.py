"""Random: each instance with the same probability, whatever went before.

No state, hence no herd: many consumers that start together do not walk in step.  Loads are less
even than in turn: of n calls to n instances the busiest one gets about ln n / ln ln n.

Source: Mitzenmacher and Upfal, Probability and Computing, section 5.2.
"""

from collections.abc import Sequence

from waypost.balance.endpoint import Endpoint
from waypost.balance.policy import Chance


class Random:
    """Picks uniformly and independently."""

    __slots__ = ("_endpoints", "_random")

    def __init__(self, random: Chance) -> None:
        self._random = random
        self._endpoints: tuple[Endpoint, ...] = ()

    def replace(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Choose from these from now on."""
        self._endpoints = endpoints

    def pick(self) -> Endpoint:
        """Any of them."""
        endpoints = self._endpoints
        return endpoints[int(self._random() * len(endpoints))]

    def choose(self, endpoints: Sequence[Endpoint]) -> Endpoint:
        """Any of these."""
        return endpoints[int(self._random() * len(endpoints))]
