"""Which address to try next, and when.

One round tries every address without delay.  Only when a whole round has failed does it wait, a
random time between nothing and a bound that doubles with each round ("full jitter": Brooker,
"Exponential Backoff And Jitter", 2015), so that thousands of clients of a registry that comes back
do not come all at once.  A connection that lived is the end of all that: the next try is made at
once.  One that was lost as soon as it stood counts as a failure, or a registry that accepts and
drops would be hammered.

Clients start at a random address, so that they spread over all of them.  What a registry tells of
its members is added to the addresses that were given, each at a random place: one address is enough
to start from, and what was given is never forgotten.

Invariant: ``_at`` is the index of the address that is next; ``_failures`` counts since the last
connection that lived.  Knows no clock and no random module.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from waypost.client.addresses import ADDRESSES_MAX, Address

BACKOFF_BASE_MS: Final = 50
BACKOFF_CAP_MS: Final = 2_000
LIVED_MS: Final = 1_000
"""A connection that held for so long has lived."""


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """What to do next: wait, then connect there."""

    address: Address
    wait_ms: int


class Failover:
    """The order of the addresses of one registry, as one client goes through them."""

    __slots__ = ("_at", "_draw", "_failures", "_given", "_order", "_whys", "wait_ms_max")

    def __init__(self, addresses: Sequence[Address], draw: Callable[[], float]) -> None:
        """``draw`` yields random numbers in [0, 1)."""
        assert addresses, "a registry has an address"
        self._draw = draw
        self._given = frozenset(addresses)
        self._order = _shuffled(addresses, draw)
        self._at = 0
        self._failures = 0
        self._whys: dict[Address, str] = {}
        self.wait_ms_max = BACKOFF_CAP_MS
        """No wait is longer: lower it for a lease that would be over by then."""

    @property
    def has_choice(self) -> bool:
        """Whether there is more than one address."""
        return len(self._order) > 1

    @property
    def has_tried_all(self) -> bool:
        """Whether a whole round failed since a connection last lived."""
        return self._failures >= len(self._order)

    @property
    def others(self) -> list[Address]:
        """All addresses in the order in which they would be tried, the next one first."""
        return self._order[self._at :] + self._order[: self._at]

    def learn(self, members: Sequence[Address]) -> list[Address]:
        """Note who belongs to the registry now; returns those that are new."""
        at = self._order[self._at]
        fresh = [member for member in dict.fromkeys(members) if member not in self._order]
        for address in fresh:
            self._order.insert(int(self._draw() * (len(self._order) + 1)), address)
        kept = self._given | {at, *members}
        for address in [each for each in self._order if each not in kept]:
            if len(self._order) > ADDRESSES_MAX:
                self._order.remove(address)  # a member once
        self._at = self._order.index(at)
        return fresh

    def next(self) -> Attempt:
        """Say where to connect, and how long to wait before."""
        rounds, within = divmod(self._failures, len(self._order))
        if rounds == 0 or within:
            return Attempt(self._order[self._at], 0)
        bound_ms = min(self.wait_ms_max, BACKOFF_BASE_MS << min(rounds - 1, 16))
        return Attempt(self._order[self._at], int(self._draw() * bound_ms))

    def failed(self, address: Address, why: str) -> None:
        """Note that it could not be connected to."""
        self._failures += 1
        self._whys[address] = why
        self._leave(address)

    def lost(self, address: Address, why: str, lived_ms: int) -> None:
        """Note that a connection to it ended, after so long."""
        if lived_ms >= LIVED_MS:
            self._failures = 0
            self._whys.clear()
            self._whys[address] = why
            self._leave(address)
        else:
            self.failed(address, why)

    def moved(self, address: Address) -> None:
        """Note that the client is connected to this one now, by choice."""
        self._at = self._order.index(address)

    def whys(self) -> str:
        """Say why each address failed, for people."""
        return "; ".join(f"{address}: {why}" for address, why in self._whys.items())

    def _leave(self, address: Address) -> None:
        if self._order[self._at] == address:
            self._at = (self._at + 1) % len(self._order)


def _shuffled(addresses: Sequence[Address], draw: Callable[[], float]) -> list[Address]:
    """Fisher and Yates' shuffle."""
    order = list(addresses)
    for end in range(len(order) - 1, 0, -1):
        other = int(draw() * (end + 1))
        order[end], order[other] = order[other], order[end]
    return order
