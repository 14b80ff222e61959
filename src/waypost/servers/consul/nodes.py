"""Nodes as Consul shows them: the servers, those that somebody registered, and those that are on.

Every instance is on a node: the one that it names, or else one that is called as its host.  A
server is a node too, with the service ``consul`` on it; and every node has the check
``serfHealth``, which Consul's clients expect to find.  It passes, unless somebody who watches the
machine sets it: an instance whose connection broke says so in a check of its own, and a lost member
of the registry must not take the services beside it out of use.
"""

import ipaddress
import uuid
from collections.abc import Mapping
from typing import Any, Final

from waypost.catalog.directory import Directory
from waypost.catalog.transacting import IMPLIED_REVISION
from waypost.checks import NodeEntry
from waypost.model import Instance, Revision
from waypost.servers.consul.names import node_of

DATACENTER: Final = "dc1"
SERF: Final = "serfHealth"
CONSUL: Final = "consul"
_NAMESPACE: Final = uuid.UUID("6f1ad3c3-5a0b-4b4e-9d8e-3f6f0f5b3a10")


class Nodes:
    """The nodes of one moment."""

    __slots__ = ("_all", "_catalog", "_known", "servers")

    def __init__(self, catalog: Directory, servers: list[tuple[str, str]]) -> None:
        self._catalog = catalog
        self.servers = {name: host_of(address) for name, address in servers}
        self._known: dict[tuple[str, str], dict[str, Any]] = {}
        self._all: dict[str, str] | None = None

    def address(self, name: str, otherwise: str = "") -> str:
        """Where a node is: as registered, or as a server, or else ``otherwise``, or its name."""
        entry = self._catalog.nodes.entries.get(name)
        if entry is not None and entry.address:
            return entry.address
        return self.servers.get(name) or otherwise or name

    def of(self, instance: Instance) -> dict[str, Any]:
        """The node that an instance is on."""
        return self.shown(node_of(instance), instance.host)

    def shown(self, name: str, otherwise: str = "") -> dict[str, Any]:
        """A node; ``otherwise`` is its address if nobody said one."""
        key = name, otherwise
        found = self._known.get(key)
        if found is None:
            entry = self._catalog.nodes.entries.get(name) or NodeEntry(name)
            found = self._known[key] = self.entry(entry, otherwise)
        return found

    def entry(self, entry: NodeEntry, otherwise: str = "") -> dict[str, Any]:
        """A node with an entry, which may be another than the one of now."""
        name = entry.name
        address = entry.address or self.address(name, otherwise)
        return {
            "ID": entry.id or str(uuid.uuid5(_NAMESPACE, name)),
            "Node": name,
            "Address": address,
            "Datacenter": DATACENTER,
            "TaggedAddresses": entry.tagged_addresses or tagged(address),
            "Meta": entry.meta,
            "CreateIndex": entry.revision or IMPLIED_REVISION,
            "ModifyIndex": entry.revision or IMPLIED_REVISION,
        }

    def all(self) -> dict[str, str]:
        """The names of all nodes, in order, each with what its address would be otherwise."""
        if self._all is not None:
            return self._all
        found = dict.fromkeys(self.servers, "")
        found |= dict.fromkeys(self._catalog.nodes.entries, "")
        for service in self._catalog.service_names():
            for record in (self._catalog.service(service) or {}).values():
                found.setdefault(node_of(record.instance), record.instance.host)
        self._all = dict(sorted(found.items()))
        return self._all

    def is_known(self, name: str) -> bool:
        """Whether there is such a node."""
        if name in self.servers or name in self._catalog.nodes.entries:
            return True
        return name in self.all()

    def has_meta(self, name: str, wanted: Mapping[str, str]) -> bool:
        """Whether a node has all these pairs."""
        entry = self._catalog.nodes.entries.get(name)
        meta = {} if entry is None else entry.meta
        return all(meta.get(key) == value for key, value in wanted.items())


def serf_check(node: str, revision: Revision = 1) -> dict[str, Any]:
    """The check that every node has."""
    return {
        "Node": node,
        "CheckID": SERF,
        "Name": "Serf Health Status",
        "Status": "passing",
        "Notes": "",
        "Output": "Agent alive and reachable",
        "ServiceID": "",
        "ServiceName": "",
        "ServiceTags": [],
        "Type": "",
        "Interval": "",
        "Timeout": "",
        "ExposedPort": 0,
        "Definition": {},
        "CreateIndex": revision,
        "ModifyIndex": revision,
    }


def tagged(address: str) -> dict[str, str]:
    """What Consul says of a node with one address."""
    kind = family(address)
    addresses = {"lan": address, "wan": address}
    if kind:
        addresses |= {f"lan_{kind}": address, f"wan_{kind}": address}
    return dict(sorted(addresses.items()))


def family(address: str) -> str:
    """``ipv4``, ``ipv6``, or nothing for a name."""
    try:
        return f"ipv{ipaddress.ip_address(address).version}"
    except ValueError:
        return ""


def host_of(address: str) -> str:
    """The host of ``host:port``."""
    return address.rpartition(":")[0].strip("[]")


def port_of(address: str) -> int:
    """The port of ``host:port``."""
    return int(address.rpartition(":")[2] or 0)
