"""What queries on keys, holders and events read: see ``blocking``.

A key or a prefix that is not there has the index of all keys, as in Consul: whatever makes it
appear has a higher one.  Its query waits on through all other changes, since what was removed is
known for each key (``catalog.keys``).

A topic that was woken has changed: only what it reads wakes it, so that a large prefix is not read
again for each of those who wait.
"""

from collections.abc import Callable

from waypost.model import Revision
from waypost.node.key_verbs import KeyVerbs
from waypost.servers.consul.blocking import Wake


class KeyTopic:
    """One key."""

    __slots__ = ("_key", "_keys", "_was_woken")

    def __init__(self, keys: KeyVerbs, key: str) -> None:
        self._keys = keys
        self._key = key
        self._was_woken = False

    def index(self) -> Revision:
        """Of the key, or of all keys if it is not there."""
        found = self._keys.space.keys.find(self._key)
        return self._keys.space.keys.revision if found is None else found.revision

    def has_changed(self, since: Revision) -> bool:
        """Whether it was set or removed."""
        keys = self._keys.space.keys
        found = keys.find(self._key)
        if found is not None:
            return found.revision > since
        return self._was_woken or keys.is_removed_since(self._key, since)

    def watch(self, wake: Wake) -> Callable[[], None]:
        """Be told of its changes."""

        def woken() -> None:
            self._was_woken = True
            wake()

        return self._keys.waits.on_key(self._key, woken)


class PrefixTopic:
    """All keys that begin with a prefix."""

    __slots__ = ("_keys", "_prefix", "_was_woken")

    def __init__(self, keys: KeyVerbs, prefix: str) -> None:
        self._keys = keys
        self._prefix = prefix
        self._was_woken = False

    def index(self) -> Revision:
        """Of the latest change under it, or of all keys if there never was one."""
        return self._keys.space.keys.revision_under(self._prefix)

    def has_changed(self, since: Revision) -> bool:
        """Whether anything under it was set or removed."""
        return self._was_woken or self._keys.space.keys.has_changed_under(self._prefix, since)

    def watch(self, wake: Wake) -> Callable[[], None]:
        """Be told of the changes under it."""

        def woken() -> None:
            self._was_woken = True
            wake()

        return self._keys.waits.on_prefix(self._prefix, woken)


class HoldersTopic:
    """Who may hold keys."""

    __slots__ = ("_keys",)

    def __init__(self, keys: KeyVerbs) -> None:
        self._keys = keys

    def index(self) -> Revision:
        """Of the latest that was opened or ended."""
        return self._keys.space.holders.revision

    def has_changed(self, since: Revision) -> bool:
        """Whether any was."""
        return self.index() > since

    def watch(self, wake: Wake) -> Callable[[], None]:
        """Be told of each."""
        return self._keys.waits.on_holders(wake)


class EventsTopic:
    """The latest events, all or those of one name."""

    __slots__ = ("_keys", "_name")

    def __init__(self, keys: KeyVerbs, name: str) -> None:
        self._keys = keys
        self._name = name

    def index(self) -> Revision:
        """Of the latest of that name, or of all events if none is remembered."""
        events = self._keys.space.events
        latest = events[-1].revision if events else 0
        return next(
            (each.revision for each in reversed(events) if self._name in ("", each.name)), latest
        )

    def has_changed(self, since: Revision) -> bool:
        """Whether there was another one."""
        return any(
            each.revision > since and self._name in ("", each.name)
            for each in self._keys.space.events
        )

    def watch(self, wake: Wake) -> Callable[[], None]:
        """Be told of each."""
        return self._keys.waits.on_events(wake)
