"""A service as ``health/service`` shows it, encoded once and kept until it changes.

Invariant: what is kept is what ``Shapes`` and the encoder would give for the catalog as it is now.
"""

from collections.abc import Callable
from typing import Any, Final

from waypost.model import Revision, ServiceName
from waypost.node.registry import Registry
from waypost.servers.consul.replies import encode_json
from waypost.servers.consul.shapes import Shapes
from waypost.servers.consul.topics import service_index

Servers = Callable[[], list[tuple[str, str]]]
_SPARE: Final = 64


class Entries:
    """The encoded answers of one door."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._kept: dict[tuple[ServiceName, bool], tuple[Revision, Revision, bytes]] = {}

    def body(self, service: ServiceName, servers: Servers, *, is_passing: bool) -> bytes:
        """All entries of a service, or those of which every check passes."""
        catalog = self._registry.catalog
        index, nodes = service_index(catalog, service), catalog.nodes.revision
        kept = self._kept.get((service, is_passing))
        if kept is not None and kept[0] == index and kept[1] == nodes:
            return kept[2]
        entries = Shapes(catalog, servers()).health_entries(service)
        if is_passing:
            entries = [each for each in entries if passes(each["Checks"])]
        body = encode_json(entries)
        if catalog.service(service) is not None:  # the unknown are unbounded
            if len(self._kept) > 2 * catalog.service_count + _SPARE:
                self._kept.clear()
            self._kept[service, is_passing] = index, nodes, body
        return body


def passes(checks: list[dict[str, Any]]) -> bool:
    """Whether all of them do."""
    return all(each["Status"] == "passing" for each in checks)
