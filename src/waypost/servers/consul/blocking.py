"""Blocking queries: an answer that waits until what it reads has changed.

A query reads a ``Topic``.  A client that gives the index of its last answer waits until the topic
has changed since; when its time is up it is told what it knows already.  The index is a revision of
the registry, and these hold:

- an index that was told is not above the revision of the state that was told with it;
- whatever changes a topic later has a higher one;
- so who is told nothing has missed nothing, on whichever node it asks next, and is told an index
  that is not lower than the one it came with.

A client with an index that this node has yet to reach waits for it: on a follower as long as it
would wait for a change; on a leader, which nobody is ahead of, for ``AHEAD_S`` (then its index is
from another life of the data, and the lower one tells it to begin anew).

Source: Consul's documentation of blocking queries, and ``agent/blockingquery``.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Final, Protocol

from starlette.types import Receive

from waypost.model import Revision
from waypost.node.registry import Registry
from waypost.servers.web.requests import ClientGone

AHEAD_S: Final = 2.0
JITTER: Final = 16
"""A wait is longer by up to this part of it, so that clients do not come back together."""
WAITING_MAX: Final = 20_000
"""On one node; what comes above waits no longer than ``CROWDED_WAIT_S``."""
CROWDED_WAIT_S: Final = 1.0

Wake = Callable[[], None]


class Topic(Protocol):
    """What a query reads."""

    def index(self) -> Revision:
        """Tell the index of what would be answered now: at most the registry's revision."""
        ...

    def has_changed(self, since: Revision) -> bool:
        """Whether the answer may differ from the one at ``since``, which is not to come yet."""
        ...

    def watch(self, wake: Wake) -> Callable[[], None]:
        """Call ``wake`` at each change from now on, until what is returned here is called."""
        ...


class Waits:
    """Everyone who waits at this door."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._wakes: set[Wake] = set()
        self.is_closing = False

    def __len__(self) -> int:
        return len(self._wakes)

    def close(self) -> None:
        """Answer all of them now, and let nobody wait any more."""
        self.is_closing = True
        for wake in list(self._wakes):
            wake()

    async def hold(self, topic: Topic, since: Revision, wait_s: float, receive: Receive) -> int:
        """Wait as asked, and return the index to answer with; raises ``ClientGone``.

        The answer is to be made before anything else is awaited.
        """
        if since > 0 and not self._is_over(topic, since):
            await self._wait(topic, since, wait_s, receive)
        index = topic.index()
        if since <= self._registry.revision:
            index = max(index, since)
        return max(index, 1)

    def _is_over(self, topic: Topic, since: Revision) -> bool:
        return self.is_closing or (self._registry.revision >= since and topic.has_changed(since))

    async def _wait(self, topic: Topic, since: Revision, wait_s: float, receive: Receive) -> None:
        registry, loop = self._registry, asyncio.get_running_loop()
        if since > registry.revision and registry.source == "leader":
            wait_s = min(wait_s, AHEAD_S)
        elif len(self._wakes) >= WAITING_MAX:
            wait_s = min(wait_s, CROWDED_WAIT_S)
        else:
            wait_s += random.uniform(0, wait_s / JITTER)
        over: asyncio.Future[bool] = loop.create_future()

        def wake() -> None:
            if not over.done() and self._is_over(topic, since):
                over.set_result(True)

        def time_up() -> None:
            if not over.done():
                over.set_result(False)

        self._wakes.add(wake)
        gone = asyncio.ensure_future(_gone(receive))
        timer = loop.call_later(wait_s, time_up)
        # Nothing is awaited between looking at the topic and watching it, so no change is missed.
        unwatch = topic.watch(wake)
        try:
            await asyncio.wait((over, gone), return_when=asyncio.FIRST_COMPLETED)
            if not over.done():
                raise ClientGone
        finally:
            unwatch()
            timer.cancel()
            gone.cancel()
            self._wakes.discard(wake)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def remaining(wait_s: float) -> Callable[[], float]:
    """A countdown from now: how many seconds are left."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    return lambda: deadline - loop.time()
