"""Who hears of checks at a node: those who look after them, and those who show them."""

from collections.abc import Callable, Sequence
from typing import Protocol

from waypost.catalog.state import Applied, Catalog
from waypost.checks import CheckKey, CheckState
from waypost.model import Revision, ServiceName

CheckListener = Callable[[Revision, Sequence[ServiceName]], None]


class Checkup(Protocol):
    """Who looks after checks, as the node and its verbs need it."""

    def reported(self, keys: Sequence[CheckKey]) -> None:
        """An entry of the log said how these are."""
        ...

    async def hear(self, state: CheckState) -> bool:
        """Somebody says that a check is as it is: let its owner know; False if nobody was told."""
        ...


class CheckNews:
    """Tells them what an entry changed."""

    def __init__(self) -> None:
        self.checkup: Checkup | None = None
        self.listeners: list[CheckListener] = []
        """Hear of each entry that changed a check or a node: see ``CheckVerbs.on_checks``."""

    def applied(self, index: Revision, applied: Applied, catalog: Catalog) -> None:
        """An entry was applied."""
        if applied.rechecked:
            for listener in list(self.listeners):
                listener(index, applied.rechecked)
        if self.checkup is not None:
            self.checkup.reported(catalog.checks.reported_at(index))

    def restored(self, catalog: Catalog) -> None:
        """Everything may have changed."""
        for listener in list(self.listeners):
            listener(catalog.revision, [*catalog.service_names(), ""])
