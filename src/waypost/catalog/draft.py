"""Keys as they would be: what a transaction works on before it is known to go through.

Its operations see what those before them did; the keys themselves change at ``commit`` alone, by
the same steps in the same order.
"""

from collections.abc import Iterator
from typing import Protocol

from waypost.catalog.keys import Keys, Pair
from waypost.commands import DropKey
from waypost.model import Revision


class Store(Protocol):
    """Keys, or a draft of them."""

    def find(self, key: str) -> Pair | None:
        """See ``Keys.find``."""
        ...

    def under(self, prefix: str) -> Iterator[Pair]:
        """See ``Keys.under``."""
        ...

    def put(self, pair: Pair) -> None:
        """See ``Keys.put``."""
        ...

    def drop(self, key: str, revision: Revision) -> None:
        """See ``Keys.drop``."""
        ...

    def drop_under(self, prefix: str, revision: Revision) -> list[str]:
        """See ``Keys.drop_under``."""
        ...


class Draft:
    """Keys as they would be."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._changed: dict[str, Pair | None] = {}
        self._steps: list[Pair | DropKey] = []

    def find(self, key: str) -> Pair | None:
        """Look a key up."""
        return self._changed[key] if key in self._changed else self._keys.find(key)

    def under(self, prefix: str) -> Iterator[Pair]:
        """Go through the pairs whose keys begin with ``prefix``, by key."""
        changed = self._changed
        if not changed:
            yield from self._keys.under(prefix)
            return
        found = {pair.key: pair for pair in self._keys.under(prefix) if pair.key not in changed}
        new = changed.values()
        found.update((pair.key, pair) for pair in new if pair and pair.key.startswith(prefix))
        for key in sorted(found):
            yield found[key]

    def put(self, pair: Pair) -> None:
        """Add a pair, or replace the one with its key."""
        self._changed[pair.key] = pair
        self._steps.append(pair)

    def drop(self, key: str, revision: Revision) -> None:  # noqa: ARG002
        """Remove a key, if it is there."""
        self._changed[key] = None
        self._steps.append(DropKey(key))

    def drop_under(self, prefix: str, revision: Revision) -> list[str]:  # noqa: ARG002
        """Remove all keys that begin with ``prefix``; tell which."""
        keys = [pair.key for pair in self.under(prefix)]
        self._changed.update(dict.fromkeys(keys))
        self._steps.append(DropKey(prefix, is_prefix=True))
        return keys

    def commit(self, revision: Revision) -> list[str]:
        """Do it all to the keys; tell which may have changed."""
        for step in self._steps:
            if isinstance(step, Pair):
                self._keys.put(step)
            elif step.is_prefix:
                self._keys.drop_under(step.key, revision)
            else:
                self._keys.drop(step.key, revision)
        return list(self._changed)
