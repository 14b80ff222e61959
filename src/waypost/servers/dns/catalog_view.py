"""What this door reads of the registry.

Who has an address is an index that is made when it is first asked for, and followed from then on;
a registry of more than ``INDEXED_MAX`` instances has none, and says nothing of addresses.  An
entry of the index is a hint: whether the instance is still there, and on that address, is looked
up when it is told.
"""

from collections.abc import Callable, Mapping
from typing import Final

from waypost.model import Record, resolvable
from waypost.node.registry import Registry
from waypost.node.watches import Burst
from waypost.servers.dns.hosts import read_host

INDEXED_MAX: Final = 50_000


class CatalogView:
    """One node's catalog, as the answers need it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._addresses: _Addresses | None = None
        self._folded: tuple[int, dict[str, str]] = (-1, {})

    @property
    def revision(self) -> int:
        """Of everything."""
        return self._registry.revision

    @property
    def age_ms(self) -> int:
        """How old it may be."""
        return self._registry.age_ms

    @property
    def advertised_host(self) -> str:
        """Where other nodes reach this one; empty if nobody has to."""
        return self._members().get(self._registry.name, "")

    def service(self, name: str) -> Mapping[str, Record] | None:
        """The instances of a service, by id; None if it has none."""
        return self._registry.catalog.service(name)

    def service_revision(self, name: str) -> int | None:
        """Of its latest change; None if it has no instance."""
        return self._registry.catalog.service_revision(name)

    def hosts_of_node(self, name: str) -> list[str]:
        """Where a node is reached, its name in lower case: a machine, or a member of the cluster.

        What was registered for it goes before the addresses of the instances on it.
        """
        registry = self._registry
        written = self._written(name)
        if written:
            entry = registry.node(written)
            if entry is not None and entry.address:
                return [entry.address]
            if keys := registry.on_node(written):
                found = (registry.record(*key).instance.host for key in keys)
                return sorted(set(found))
        return [host for member, host in self._members().items() if member.lower() == name]

    def meta_of_node(self, name: str) -> Mapping[str, str]:
        """What was registered to be told of a node."""
        entry = self._registry.node(self._written(name))
        return {} if entry is None else entry.meta

    def services_at(self, address: bytes) -> list[str]:
        """The services that have a usable instance on an address, by name."""
        if self._registry.catalog.instance_count > INDEXED_MAX:
            self.close()
            return []
        if self._addresses is not None and self._addresses.is_full:
            self.close()
        if self._addresses is None:
            self._addresses = _Addresses(self._registry)
        return self._addresses.services_at(address)

    def close(self) -> None:
        """Follow no longer."""
        if self._addresses is not None:
            self._addresses.close()
            self._addresses = None

    def _members(self) -> dict[str, str]:
        """The nodes of the registry itself, and their hosts."""
        return {
            name: address.rpartition(":")[0].strip("[]")
            for name, address in self._registry.servers()
        }

    def _written(self, name: str) -> str:
        """The node's name as it was registered; empty if none is known by that name."""
        nodes = self._registry.catalog.nodes
        revision, folded = self._folded
        if revision != self.revision:
            folded = {each.lower(): each for each in nodes.names}
            self._folded = (self.revision, folded)
        return folded.get(name, "")


class _Addresses:
    """Which services have, or had, an instance on which address."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._services: dict[bytes, dict[str, None]] = {}
        self._close: Callable[[], None] = registry.listen("", self)
        for name in registry.catalog.service_names():
            for record in (registry.catalog.service(name) or {}).values():
                self._note(record)

    @property
    def is_slow(self) -> bool:
        """Never: it takes what it is told at once."""
        return False

    def send_snapshot(self, revision: int, records: list[Record]) -> None:  # noqa: ARG002
        """Everything is as these say."""
        self._services.clear()
        for record in records:
            self._note(record)

    def send_burst(self, burst: Burst) -> None:
        """These changed."""
        for change in burst.changes:
            if change.kind != "down":
                self._note(change.record)

    def send_bookmark(self, revision: int) -> None:
        """Nothing changed."""

    def services_at(self, address: bytes) -> list[str]:
        """Look up, and forget what is no longer so."""
        found: list[str] = []
        noted = self._services.get(address, {})
        for name in list(noted):
            records = (self._registry.catalog.service(name) or {}).values()
            there = [each for each in records if read_host(each.instance.host) == address]
            if not there:
                del noted[name]
            elif resolvable(there):
                found.append(name)
        if not noted:
            self._services.pop(address, None)
        return sorted(found)

    def close(self) -> None:
        """Listen no longer."""
        self._close()

    @property
    def is_full(self) -> bool:
        """Whether so much was noted that it should be made anew, without what is long gone."""
        return len(self._services) >= 2 * INDEXED_MAX

    def _note(self, record: Record) -> None:
        if self.is_full:
            return
        address = read_host(record.instance.host)
        if isinstance(address, bytes):
            self._services.setdefault(address, {})[record.instance.service] = None
