"""Everybody who listens: one watch of the registry, and whom its changes concern.

What changes within a moment is told in one round.  A round wakes a few streams at a time, with the
rest of the node's work in between, and is followed by a rest as long as itself: pushing to a
thousand clients delays nobody else's answer by more than a few of them take.

Invariant: while a stream is open, every change reaches ``touch`` of all open streams.
"""

import asyncio
import logging
from collections import deque
from typing import Final, Protocol

from waypost.errors import Overloaded, Unavailable
from waypost.model import Record, ServiceName
from waypost.node.metrics import Metric
from waypost.node.node import AGE_UNKNOWN_MS, Node
from waypost.node.watches import ALL, Burst, Watcher
from waypost.servers.xds.delta import DeltaStream
from waypost.servers.xds.kinds import Kind, short
from waypost.servers.xds.shelf import Shelf
from waypost.servers.xds.sotw import SotwStream
from waypost.servers.xds.subscription import Refusal

log = logging.getLogger("waypost.xds")

STREAMS_MAX: Final = 4_096
ROUND_S: Final = 0.01
"""The least rest between two rounds."""
WOKEN_AT_ONCE: Final = 8
_REFUSALS_KEPT: Final = 256
_NAMES_SHOWN: Final = 5


class Listener(Protocol):
    """An open stream."""

    @property
    def stream(self) -> SotwStream | DeltaStream:
        """Its side of the protocol."""
        ...

    def wake(self) -> None:
        """There may be something to send."""
        ...


class Streams:
    """All streams of one node; the reader of its watch."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.shelf = Shelf(lambda: node.catalog)
        self._open: dict[Listener, None] = {}
        self._watcher: Watcher | None = None
        self._changed: dict[ServiceName, None] = {}
        self._untold: dict[Listener, None] = {}
        self._is_in_round = False
        self._loop = asyncio.get_running_loop()
        self._refusals: set[tuple[Kind, str]] = set()
        self.responses = 0
        self.refused = 0

    # Streams

    def begin(self, listener: Listener) -> None:
        """Let a stream listen, or raise why not now."""
        node = self._node
        node.admit("watch")
        if node.age_ms == AGE_UNKNOWN_MS:
            raise Unavailable(
                "this node has not heard from a leader yet, and would say that services are gone "
                "which are not: ask another node"
            )
        if len(self._open) >= STREAMS_MAX:
            raise Overloaded(
                f"{STREAMS_MAX} xDS streams are open, the most that one node serves: ask another",
                retry_after=5.0,
            )
        self._open[listener] = None
        if self._watcher is None:
            revision = node.catalog.revision
            self._watcher = node.watches.begin(ALL, self, revision, confirms=False)

    def end(self, listener: Listener) -> None:
        """A stream is over."""
        self._open.pop(listener, None)
        if not self._open and self._watcher is not None:
            self._node.watches.end(self._watcher)
            self._watcher = None
            self.shelf.forget_all()

    def refusal(self, refusal: Refusal, client: str) -> None:
        """Count it; and say once what was refused, as every client says the same."""
        self.refused += 1
        key = (refusal.kind, refusal.why)
        if key in self._refusals or len(self._refusals) >= _REFUSALS_KEPT:
            return
        self._refusals.add(key)
        names = refusal.names
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        log.warning(
            "client %r refuses %s of %s%s, and goes on with what it had: %s",
            client, short(refusal.kind), ", ".join(names[:_NAMES_SHOWN]) or "nothing", more,
            refusal.why,
        )  # fmt: skip

    def metrics(self) -> list[Metric]:
        """What is counted."""
        return [
            Metric("waypost_xds_streams", "gauge", "xDS streams open.", [({}, len(self._open))]),
            Metric(
                "waypost_xds_responses_total",
                "counter",
                "Responses sent to xDS clients.",
                [({}, self.responses)],
            ),
            Metric(
                "waypost_xds_refused_total",
                "counter",
                "Responses that an xDS client refused (NACK).",
                [({}, self.refused)],
            ),
        ]

    # What the registry tells

    @property
    def is_slow(self) -> bool:
        """Never: what changes is marked at once, and told later."""
        return False

    def send_snapshot(self, revision: int, records: list[Record]) -> None:  # noqa: ARG002
        """Everything may have changed."""
        self.shelf.forget_all()
        for listener in self._open:
            listener.stream.touch_all()
        self._untold = dict.fromkeys(self._open)
        self._begin_round()

    def send_burst(self, burst: Burst) -> None:
        """Some instances changed."""
        services = dict.fromkeys(change.record.instance.service for change in burst.changes)
        self.shelf.forget(services)
        self._changed.update(services)
        self._begin_round()

    def send_bookmark(self, revision: int) -> None:
        """Nothing changed."""

    # Rounds

    def _begin_round(self) -> None:
        if not self._is_in_round:
            self._is_in_round = True
            self._loop.call_soon(self._round)

    def _round(self) -> None:
        services, self._changed = self._changed, {}
        untold, self._untold = self._untold, {}
        untold.update((each, None) for each in self._open if each.stream.touch(services))
        self._tell(deque(untold), self._loop.time())

    def _tell(self, listeners: deque[Listener], began_s: float) -> None:
        """Wake the next few; when all are awake, rest for as long as that took."""
        for _ in range(min(WOKEN_AT_ONCE, len(listeners))):
            listeners.popleft().wake()
        if listeners:
            self._loop.call_soon(self._tell, listeners, began_s)
        else:
            took_s = self._loop.time() - began_s
            self._loop.call_later(max(ROUND_S, took_s), self._end_round)

    def _end_round(self) -> None:
        self._is_in_round = False
        if self._changed or self._untold:
            self._begin_round()
