"""What queries read: one service, or what never changes.

An answer that found nothing has the index of the moment, which is not below that of whatever it
did not find; so what was deleted needs no memory of its own.
"""

from collections.abc import Callable
from typing import Final

from waypost.model import Record, Revision
from waypost.node.registry import Registry
from waypost.node.watches import Burst
from waypost.servers.consul.blocking import Wake


class ServiceTopic:
    """The instances of one service, and their health."""

    __slots__ = ("_name", "_registry")

    def __init__(self, registry: Registry, name: str) -> None:
        self._registry = registry
        self._name = name

    def index(self) -> Revision:
        """Of its latest change; of the moment, if there is no such service."""
        catalog = self._registry.catalog
        revision = catalog.service_revision(self._name)
        return catalog.revision if revision is None else revision

    def has_changed(self, since: Revision) -> bool:
        """Whether it changed; one that is gone changed if its end is remembered or may be."""
        catalog = self._registry.catalog
        revision = catalog.service_revision(self._name)
        if revision is not None:
            return revision > since
        changes = catalog.since(self._name, since)
        return changes is None or bool(changes)

    def watch(self, wake: Wake) -> Callable[[], None]:
        """Be told of its changes, as every watch is: a drain counts who waits here, too."""
        return self._registry.listen(self._name, _Ears(wake))


class Constant:
    """What does not change while this server runs."""

    __slots__ = ()

    def index(self) -> Revision:
        """The lowest."""
        return 1

    def has_changed(self, since: Revision) -> bool:  # noqa: ARG002
        """Never."""
        return False

    def watch(self, wake: Wake) -> Callable[[], None]:  # noqa: ARG002
        """There is nothing to be told."""
        return _nothing


CONSTANT: Final = Constant()


class _Ears:
    """A watch's reader that only wakes somebody."""

    __slots__ = ("_wake",)
    is_slow = False

    def __init__(self, wake: Wake) -> None:
        self._wake = wake

    def send_snapshot(self, revision: int, records: list[Record]) -> None:  # noqa: ARG002
        self._wake()

    def send_burst(self, burst: Burst) -> None:  # noqa: ARG002
        self._wake()

    def send_bookmark(self, revision: int) -> None:
        pass


def _nothing() -> None:
    pass
