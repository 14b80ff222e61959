"""What queries read: one service, or what never changes.

An answer that found nothing has the index of the moment, which is not below that of whatever it
did not find; so what was deleted needs no memory of its own.
"""

from collections.abc import Callable, Sequence
from typing import Final

from waypost.catalog.directory import Directory
from waypost.model import Record, Revision, ServiceName
from waypost.node.registry import Registry
from waypost.node.watches import Burst
from waypost.servers.consul.blocking import Wake


class Services:
    """The topics of single services, and who is woken by their checks."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._wakes: dict[ServiceName, dict[Wake, None]] = {}
        self._stop: Callable[[], None] | None = None

    def topic(self, name: ServiceName) -> "ServiceTopic":
        """The topic of one."""
        return ServiceTopic(self, self._registry, name)

    def watch_checks(self, name: ServiceName, wake: Wake) -> Callable[[], None]:
        """Be told of each change of a check, or of a node, that counts for a service."""
        if self._stop is None:
            self._stop = self._registry.on_checks(self._rechecked)
        self._wakes.setdefault(name, {})[wake] = None

        def unwatch() -> None:
            wakes = self._wakes[name]
            del wakes[wake]
            if not wakes:
                del self._wakes[name]
            if not self._wakes and self._stop is not None:
                self._stop()
                self._stop = None

        return unwatch

    def _rechecked(self, revision: Revision, services: Sequence[ServiceName]) -> None:  # noqa: ARG002
        for name in services:
            for wake in list(self._wakes.get(name, ())):
                wake()


class ServiceTopic:
    """The instances of one service, their checks, and those of their nodes."""

    __slots__ = ("_name", "_registry", "_services")

    def __init__(self, services: Services, registry: Registry, name: ServiceName) -> None:
        self._services = services
        self._registry = registry
        self._name = name

    def index(self) -> Revision:
        """Of its latest change; of the moment, if there is no such service."""
        return service_index(self._registry.catalog, self._name)

    def has_changed(self, since: Revision) -> bool:
        """Whether it changed; one that is gone changed if its end is remembered or may be."""
        catalog = self._registry.catalog
        if catalog.service(self._name) is not None:
            return service_index(catalog, self._name) > since
        changes = catalog.since(self._name, since)
        return changes is None or bool(changes)

    def watch(self, wake: Wake) -> Callable[[], None]:
        """Be told of its changes, as every watch is: a drain counts who waits here, too."""
        stop = self._registry.listen(self._name, _Ears(wake))
        unwatch = self._services.watch_checks(self._name, wake)

        def end() -> None:
            stop()
            unwatch()

        return end


def service_index(catalog: Directory, name: ServiceName) -> Revision:
    """Of the latest change of a service; of the moment, if there is none."""
    revision = catalog.service_revision(name)
    if revision is None:
        return catalog.revision
    return max(revision, catalog.checks.revisions.get(name, 0))


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
