"""Weighted: each instance by its share of the weights, its picks spread evenly.

A period of the schedule is laid out when the weights change, and is then walked around for ever.
Cut into ``slots`` picks, of which an instance with share p has ``p * slots``, it holds:

- each instance exactly as often as its weight says, when all weights are small whole numbers (or
  fractions of a power of two); else rounded to whole slots, by less than one, and at least one;
- at every point, for each instance, its picks so far within one of ``p`` times all picks so far;
- between two picks of the same instance at most ``ceil(2 / p)`` steps.

For that, the j-th pick of an instance is given the window of steps
``[floor(j / p), ceil((j + 1) / p))``, and each step goes to the instance whose open window closes
first.  One that always fits exists, and this rule finds it (P-fairness on one processor).
Picking the heaviest first, or the earliest deadline without the opening of the window, bunches
the picks of a heavy instance together.

A weight of 0 never comes here: it drains.  An unknown weight is not 0: it counts as the mean of
those that are known.  A new schedule starts at a random step, since with changes more frequent
than a period those at its end would starve if it started at the first.

Source: Baruah, Cohen, Plaxton, Varvel: Proportionate Progress (Algorithmica 15, 1996); the bound
is that of Tijdeman, The chairman assignment problem (Discrete Mathematics 32, 1980).
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import accumulate, cycle
from math import gcd, lcm

from waypost.balance.endpoint import Endpoint
from waypost.balance.policy import Chance

SLOTS_MIN = 256
SLOTS_MAX = 16_384
"""Of a rounded schedule.  Laying out a slot takes about a microsecond, hence all of them 16 ms."""
SLOTS_OF_LIGHTEST = 8
"""What the lightest one has at least, as long as there are slots enough."""


class Weighted:
    """Picks by weight, along a schedule."""

    __slots__ = ("_next", "_random", "_shares")

    _next: Callable[[], Endpoint]

    def __init__(self, random: Chance) -> None:
        self._random = random
        self._shares: dict[Endpoint, int] = {}

    def replace(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Lay out a new schedule, unless instances and weights are the same as before."""
        shares = dict(
            zip(endpoints, slots_of([e.record.instance.weight for e in endpoints]), strict=True)
        )
        if shares == self._shares:
            return
        self._shares = shares
        schedule = [endpoints[i] for i in lay_out(list(shares.values()))]
        start = int(self._random() * len(schedule))
        self._next = cycle(schedule[start:] + schedule[:start]).__next__

    def pick(self) -> Endpoint:
        """The next of the schedule."""
        return self._next()

    def choose(self, endpoints: Sequence[Endpoint]) -> Endpoint:
        """Any of these, with the probability that its weight gives it."""
        upto = list(accumulate(self._shares[endpoint] for endpoint in endpoints))
        return endpoints[bisect_right(upto, self._random() * upto[-1])]


def slots_of(weights: Sequence[float | None]) -> list[int]:
    """How many slots of a period each of these positive weights has: at least one."""
    exact = _whole(weights)
    total = sum(exact)
    slots_max = max(SLOTS_MAX, 2 * len(exact))
    if total <= slots_max:
        return exact
    wanted = SLOTS_OF_LIGHTEST * total // min(exact)
    slots = min(max(wanted, SLOTS_MIN), slots_max)
    # Largest remainders: everyone has its whole slots, those cut off most have what is left over.
    floors = [weight * slots // total for weight in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: -(exact[i] * slots % total))
    for i in by_remainder[: slots - sum(floors)]:
        floors[i] += 1
    return [max(floor, 1) for floor in floors]


def lay_out(shares: Sequence[int]) -> list[int]:
    """Spread ``shares[i]`` occurrences of each i evenly over a period of ``sum(shares)`` steps."""
    count = len(shares)
    period = sum(shares)
    # A job is its deadline and its owner in one number: compared at once, ties by list order.
    opening: list[list[int]] = [[] for _ in range(period)]
    for owner, share in enumerate(shares):
        for j in range(share):
            deadline = -(-(j + 1) * period // share)
            opening[j * period // share].append(deadline * count + owner)
    ready: list[int] = []
    order: list[int] = []
    for step, jobs in enumerate(opening, start=1):
        for job in jobs:
            heappush(ready, job)
        deadline, owner = divmod(heappop(ready), count)
        assert deadline >= step, "an instance missed its window"
        order.append(owner)
    return order


def _whole(weights: Sequence[float | None]) -> list[int]:
    """The same proportions in the smallest whole numbers, the unknown ones at the mean."""
    ratios = [None if weight is None else weight.as_integer_ratio() for weight in weights]
    known = [ratio for ratio in ratios if ratio is not None]
    if not known:
        return [1] * len(weights)
    denominator = lcm(*(below for _, below in known))
    mean = sum(above * (denominator // below) for above, below in known)  # times len(known)
    whole = [
        mean if ratio is None else ratio[0] * (denominator // ratio[1]) * len(known)
        for ratio in ratios
    ]
    divisor = gcd(*whole)
    return [weight // divisor for weight in whole]
