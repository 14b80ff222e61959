"""Who waits for a change of a key, of a prefix, of the holders or of the events.

A change wakes those who wait for it and nobody else.  Prefixes are found by their lengths: a key
that changed is looked up once for each length that anybody waits with, however many wait.

Always true: who is in it when an entry changes what he waits for is woken, after the catalog has
the entry.  A wake-up is a hint: whoever is woken looks for himself.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from waypost.catalog.keyspace import Touched

Wake = Callable[[], None]
_HOLDERS: Final = "holders"
_EVENTS: Final = "events"


class KeyWaits:
    """Everyone who waits at this node."""

    def __init__(self) -> None:
        self._by_key: dict[str, dict[Wake, None]] = {}
        self._by_prefix: dict[str, dict[Wake, None]] = {}
        self._lengths: dict[int, int] = {}
        """How many of the prefixes have a length."""
        self._by_topic: dict[str, dict[Wake, None]] = {}

    def on_key(self, key: str, wake: Wake) -> Callable[[], None]:
        """Wake at each change of a key, until what is returned is called."""
        return _added(self._by_key, key, wake)

    def on_prefix(self, prefix: str, wake: Wake) -> Callable[[], None]:
        """Wake at each change of a key that begins with ``prefix``."""
        if prefix not in self._by_prefix:
            self._lengths[len(prefix)] = self._lengths.get(len(prefix), 0) + 1
        remove = _added(self._by_prefix, prefix, wake)
        return partial(self._remove_prefix, prefix, remove)

    def on_holders(self, wake: Wake) -> Callable[[], None]:
        """Wake when a holder is opened or ends."""
        return _added(self._by_topic, _HOLDERS, wake)

    def on_events(self, wake: Wake) -> Callable[[], None]:
        """Wake at each event."""
        return _added(self._by_topic, _EVENTS, wake)

    def publish(self, touched: Touched) -> None:
        """An entry changed this."""
        due: dict[Wake, None] = {}
        if self._by_key or self._by_prefix:
            lengths = list(self._lengths)
            for key in touched.keys:
                due.update(self._by_key.get(key, ()))
                for length in lengths:
                    if length <= len(key):
                        due.update(self._by_prefix.get(key[:length], ()))
        if touched.holders:
            due.update(self._by_topic.get(_HOLDERS, ()))
        if touched.events:
            due.update(self._by_topic.get(_EVENTS, ()))
        for wake in due:
            wake()

    def wake_all(self) -> None:
        """Anything may have changed: the catalog was replaced."""
        for waiting in (self._by_key, self._by_prefix, self._by_topic):
            for wakes in list(waiting.values()):
                for wake in list(wakes):
                    wake()

    def _remove_prefix(self, prefix: str, remove: Callable[[], None]) -> None:
        if prefix in self._by_prefix:
            remove()
            if prefix not in self._by_prefix:
                self._lengths[len(prefix)] -= 1
                if not self._lengths[len(prefix)]:
                    del self._lengths[len(prefix)]


def _added(waiting: dict[str, dict[Wake, None]], key: str, wake: Wake) -> Callable[[], None]:
    waiting.setdefault(key, {})[wake] = None
    return partial(_remove, waiting, key, wake)


def _remove(waiting: dict[str, dict[Wake, None]], key: str, wake: Wake) -> None:
    """Removing twice does nothing."""
    wakes = waiting.get(key)
    if wakes is not None:
        wakes.pop(wake, None)
        if not wakes:
            del waiting[key]
