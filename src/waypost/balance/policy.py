"""What every load-balancing policy does.

A policy is given the instances that may be picked, never an empty set of them, and decides nothing
else: who may be picked is the pool's business (drained, unhealthy and suspect ones are left out
before a policy sees them), and so are counting and timing.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from waypost.balance.endpoint import Endpoint

Chance = Callable[[], float]
"""Uniform in [0, 1), such as ``random.random``."""


class Policy(Protocol):
    """How one of several instances is chosen.

    ``pick`` is the hot path.  It reads one attribute that ``replace`` swaps by a single store, so
    a pick sees the instances from before a change or those from after it, never a mixture.
    """

    def replace(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Choose from these from now on: at least one, in the order of their ids."""
        ...

    def pick(self) -> Endpoint:
        """Choose the instance for a new call."""
        ...

    def choose(self, endpoints: Sequence[Endpoint]) -> Endpoint:
        """Choose one of these (at least one) for a repeated call, by the same preference.

        Leaves the rotation alone: were it turned by retries, calls that come in pairs of a failure
        and its retry would visit only every other instance.
        """
        ...
