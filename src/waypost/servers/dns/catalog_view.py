"""What this door reads of the registry."""

from collections.abc import Mapping

from waypost.model import Record
from waypost.node.registry import Registry


class CatalogView:
    """One node's catalog, as the answers need it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    @property
    def revision(self) -> int:
        """Of everything."""
        return self._registry.revision

    @property
    def age_ms(self) -> int:
        """How old it may be."""
        return self._registry.age_ms

    def service(self, name: str) -> Mapping[str, Record] | None:
        """The instances of a service, by id; None if it has none."""
        return self._registry.catalog.service(name)

    def service_revision(self, name: str) -> int | None:
        """Of its latest change; None if it has no instance."""
        return self._registry.catalog.service_revision(name)

    def hosts_of_node(self, name: str) -> list[str]:
        """Where a node of the registry is reached."""
        return [
            address.rpartition(":")[0].strip("[]")
            for each, address in self._registry.servers()
            if each.lower() == name
        ]

    def names_of_address(self, address: str) -> list[str]:  # noqa: ARG002
        """The services on an address."""
        return []

    def close(self) -> None:
        """Follow no longer."""
