"""What the client of one door sees, and since when."""

import json
import threading
import time

from waypost.cli.demo.cast import Actor

Names = frozenset[str]


class Sightings:
    """One client: its process, and all that it has said of whom it would call."""

    def __init__(self, actor: Actor, names: dict[str, str]) -> None:
        """``names`` tells, for whatever a client calls a provider, its name now."""
        self._names = names
        self._all: list[tuple[float, list[str]]] = [(time.monotonic(), actor.said["sees"])]
        threading.Thread(target=self._listen, args=(actor,), daemon=True).start()

    @property
    def now(self) -> Names:
        """Whom it would call."""
        return self._named(self._all[-1][1])

    def first(self, wanted: Names, since: float) -> float | None:
        """When it began to see exactly these, and has seen them to this moment."""
        found: float | None = None
        for at, sees in reversed(self._all):
            if self._named(sees) != wanted:
                break
            found = max(at, since)
        return found

    def _named(self, sees: list[str]) -> Names:
        return frozenset(self._names.get(each, each) for each in sees)

    def _listen(self, actor: Actor) -> None:
        assert actor.process.stdout is not None
        try:
            for line in actor.process.stdout:
                self._all.append((time.monotonic(), json.loads(line)["sees"]))
        except ValueError:
            if not actor.process.stdout.closed:  # it is when its process was ended
                raise
