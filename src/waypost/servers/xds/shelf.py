"""Resources that are encoded already, for all streams, until their service changes.

Invariant: what is kept is what encoding it now would give.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Final

from waypost.catalog.state import Catalog
from waypost.model import ServiceName
from waypost.servers.xds.endpoints import numeric
from waypost.servers.xds.kinds import EDS, Kind
from waypost.servers.xds.names import name_of, service_of
from waypost.servers.xds.resources import Resource, encode_resource

log = logging.getLogger("waypost.xds")

_NAMES_PER_SERVICE_MAX: Final = 64
"""A service has as many names as there are ports; nobody needs more of them kept."""
_TOLD_MAX: Final = 1_000


class Shelf:
    """All resources of one node."""

    def __init__(self, catalog: Callable[[], Catalog]) -> None:
        self._catalog = catalog
        self._kept: dict[ServiceName, dict[tuple[Kind, str], Resource]] = {}
        self._told: set[ServiceName] = set()

    def find(self, kind: Kind, name: str) -> Resource | None:
        """Find a resource by the name that a client has for it; None if it can be no service.

        A service of which there is no instance is one without endpoints, and its listener, routes
        and cluster are there.  So a call to it fails at once, where gRPC would wait 15 s for a
        listener; and it works once there is an instance, where grpc-js 1.14 would not see a
        listener that comes back as it was.
        """
        service = service_of(name)
        if not service:
            return None
        records = self._catalog().service(service)
        if records is None:  # not kept: anybody may ask for anything
            return encode_resource(kind, name, service, ())
        kept = self._kept.setdefault(service, {})
        found = kept.get((kind, name))
        if found is None:
            found = encode_resource(kind, name, service, records.values())
            if len(kept) < _NAMES_PER_SERVICE_MAX:
                kept[kind, name] = found
            if kind == EDS:
                self._tell_unreachable(service, [r.instance.host for r in records.values()])
        return found

    def lists(self, name: str) -> bool:
        """Whether a wildcard stands for this one too: it names a service that has an instance."""
        service = service_of(name)
        return name == name_of(service) and self._catalog().service(service) is not None

    def names(self) -> list[str]:
        """List the names of all services, as a wildcard asks for them."""
        return [name_of(service) for service in self._catalog().service_names()]

    def forget(self, services: Iterable[ServiceName]) -> None:
        """These services changed."""
        for service in services:
            self._kept.pop(service, None)

    def forget_all(self) -> None:
        """Everything changed, or nobody asks any more."""
        self._kept.clear()

    def _tell_unreachable(self, service: ServiceName, hosts: list[str]) -> None:
        """Say once that xDS leaves out instances, and what to do about it."""
        named = [host for host in hosts if not numeric(host)]
        if named and service not in self._told and len(self._told) < _TOLD_MAX:
            self._told.add(service)
            log.warning(
                "%s: %d of %d instances have a host name, such as %r, and xDS carries only "
                "addresses: they are left out there; register them by IP address",
                service, len(named), len(hosts), named[0],
            )  # fmt: skip
