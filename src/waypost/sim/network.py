"""The network between the machines: it loses, repeats, delays, reorders and cuts.

A message that is sent is delivered once, never, or twice; each copy after a delay of its own.  Cuts
and clogs are counted, so that faults may overlap and each takes back only what it did.

Knows nothing of what a message means.
"""

from collections.abc import Callable, Iterable
from random import Random
from typing import Protocol

from waypost.consensus.core import Ns
from waypost.sim.plan import MS, Setting

CALM_DELAY: Ns = 20 * MS
Link = tuple[int, int]
"""From one machine to another, by their numbers."""


class Deliver(Protocol):
    """Called with when a message arrives and what it is."""

    def __call__(self, at: Ns, source: int, target: int, parcel: object) -> None:
        """Bring ``parcel`` to ``target`` at that moment."""
        ...


class Network:
    """See the module.

    Invariant: no count of cuts or clogs is negative; what is in a clog leaves it in order.
    """

    def __init__(self, setting: Setting, rng: Random, deliver: Deliver) -> None:
        self.sent = self.lost = self.cut = self.repeated = 0
        self._loss = setting.loss_ppm / 1e6
        self._repeat = setting.repeat_ppm / 1e6
        self._tail_share = setting.tail_ppm / 1e6
        self._tail = setting.tail
        self._delay_min = setting.delay_min
        self._delay_span = setting.delay_max - setting.delay_min
        self._in_order = setting.in_order
        self._random = rng.random
        self._deliver = deliver
        self._cuts: dict[Link, int] = {}
        self._clogs: dict[Link, int] = {}
        self._clogged: dict[Link, list[object]] = {}
        self._slow: dict[Link, Ns] = {}
        self._last: dict[Link, Ns] = {}

    def send(self, now: Ns, source: int, target: int, parcel: object) -> None:
        """Take a message, and see what becomes of it."""
        link = (source, target)
        self.sent += 1
        if self._cuts and self._cuts.get(link):
            self.cut += 1
            return
        random = self._random
        if self._loss and random() < self._loss:
            self.lost += 1
            return
        if self._clogs and self._clogs.get(link):
            self._clogged.setdefault(link, []).append(parcel)
            return
        self._deliver(self._arrival(now, link), source, target, parcel)
        if self._repeat and random() < self._repeat:
            self.repeated += 1
            self._deliver(self._arrival(now, link), source, target, parcel)

    def _arrival(self, now: Ns, link: Link) -> Ns:
        random = self._random
        at = now + self._delay_min + int(random() * self._delay_span)
        if self._tail_share and random() < self._tail_share:
            at += int(random() * self._tail)
        if self._slow:
            at += self._slow.get(link, 0)
        if self._in_order:
            at = max(at, self._last.get(link, 0) + 1)
            self._last[link] = at
        return at

    def is_cut(self, source: int, target: int) -> bool:
        """Whether nothing passes on this link."""
        return self._cuts.get((source, target), 0) > 0

    def cut_links(self, links: Iterable[Link]) -> Callable[[Ns], None]:
        """Cut links; returns what takes the cut back."""
        cut = tuple(links)
        for link in cut:
            self._cuts[link] = self._cuts.get(link, 0) + 1

        def join(_: Ns) -> None:
            for link in cut:
                self._cuts[link] -= 1
                assert self._cuts[link] >= 0, f"{link} was joined more often than cut"

        return join

    def clog(self, link: Link) -> Callable[[Ns], None]:
        """Hold back what is sent on a link; returns what lets it all arrive."""
        self._clogs[link] = self._clogs.get(link, 0) + 1

        def release(now: Ns) -> None:
            self._clogs[link] -= 1
            if self._clogs[link] == 0:
                for parcel in self._clogged.pop(link, []):
                    self._deliver(self._arrival(now, link), *link, parcel)

        return release

    def slow_down(self, link: Link, by: Ns) -> Callable[[Ns], None]:
        """Make a link slow; returns what makes it as fast as it was."""
        self._slow[link] = self._slow.get(link, 0) + by

        def quicken(_: Ns) -> None:
            self._slow[link] -= by

        return quicken

    def calm(self) -> None:
        """No more losses, repeats and stragglers by chance, and no long ways."""
        self._loss = self._repeat = self._tail_share = 0.0
        self._delay_span = min(self._delay_span, CALM_DELAY)
