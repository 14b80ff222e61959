"""Whose agent is asked: every node of Waypost answers for the agents of all who call it.

In Consul an agent runs beside its services, and a service's id is its own only there.  Here the
*node* of a call to ``/v1/agent`` is, in this order:

1. the header ``X-Waypost-Node`` or the parameter ``node``, if given;
2. this server's own name, for a caller on loopback: the usual agent beside its services;
3. the caller's address.

Each caller sees and changes what is on its node, and no more.
"""

from collections.abc import Mapping

from waypost.catalog.nodes import Key
from waypost.checks import CheckState
from waypost.model import Instance, Record
from waypost.servers.consul.names import (
    is_plain_id,
    node_of,
    qualified_id,
    read_name,
    service_id_of,
)
from waypost.servers.consul.nodes import Nodes
from waypost.servers.consul.operations import Call, is_loopback

HEADER = "x-waypost-node"


class Agent:
    """The agent of one call."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.node = _node_of_call(call)

    @property
    def nodes(self) -> Nodes:
        """All nodes, of this moment."""
        return Nodes(self._call.registry.catalog, self._call.door.servers())

    @property
    def is_server(self) -> bool:
        """Whether it is one of the registry's own nodes."""
        return self.node in dict(self._call.door.servers())

    @property
    def is_registered(self) -> bool:
        """Whether somebody said where it is."""
        return self.node in self._call.registry.catalog.nodes.entries

    @property
    def address(self) -> str:
        """Where it is: as known, or where the call comes from."""
        caller, nodes = self._call.caller, self.nodes
        here = nodes.servers.get(self._call.registry.name, "")
        return nodes.address(self.node, (here if is_loopback(caller) else caller) or "127.0.0.1")

    def records(self) -> list[Record]:
        """What is on the node, by id."""
        catalog = self._call.registry.catalog
        found = [
            (catalog.service(service) or {})[instance_id]
            for service, instance_id in catalog.nodes.on(self.node)
        ]
        return sorted(found, key=lambda record: service_id_of(record.instance))

    def find(self, service_id: str) -> Record | None:
        """The instance on the node whose service has that id."""
        places = self._call.door.places
        record = self._at(places.get((self.node, service_id)))
        if record is None or service_id_of(record.instance) != service_id:
            ids = service_id, qualified_id(service_id, self.node)
            for key in self._call.registry.catalog.nodes.on(self.node):
                record = self._at(key) if key[1] in ids else None
                if record is not None and service_id_of(record.instance) == service_id:
                    places.put((self.node, service_id), key)
                    return record
            return None
        return record

    def find_check(self, check_id: str) -> CheckState | None:
        """The check with that id, of the node or of what is on it."""
        catalog, places = self._call.registry.catalog, self._call.door.check_places
        found = catalog.checks.find(("", ""), self.node, check_id)
        if found is not None:
            return found
        record = self._at(places.get((self.node, check_id)))
        if record is not None:
            found = catalog.checks.find((record.instance.service, record.instance.id), "", check_id)
        if found is None:
            for key in catalog.nodes.on(self.node):
                found = catalog.checks.find(key, "", check_id)
                if found is not None:
                    places.put((self.node, check_id), key)
                    break
        return found

    def _at(self, place: Key | None) -> Record | None:
        if place is None:
            return None
        record = (self._call.registry.catalog.service(place[0]) or {}).get(place[1])
        return record if record is not None and record.instance.node == self.node else None

    def named(self, name: str) -> list[Record]:
        """The instances of a service on the node."""
        service = read_name(name)
        return [one for one in self.records() if one.instance.service == service]

    def instance_id(self, service: str, service_id: str) -> str:
        """What an instance is called in the registry: see ``names``."""
        door = self._call.door
        return instance_id(
            self._call.registry.catalog.service(service) or {},
            service_id,
            self.node,
            is_alone=len(door.servers()) == 1 and self.node == self._call.registry.name,
        )


def instance_id(
    records: Mapping[str, Record], service_id: str, node: str, *, is_alone: bool
) -> str:
    """The id of a service's instance on a node: the one that it has, or is to get."""
    qualified = qualified_id(service_id, node)
    if qualified in records or not is_plain_id(service_id):
        return qualified
    held = records.get(service_id)
    if held is None:
        return service_id if is_alone else qualified
    return service_id if _is_that(held.instance, service_id, node) else qualified


def _is_that(instance: Instance, service_id: str, node: str) -> bool:
    return node_of(instance) == node and service_id_of(instance) == service_id


def _node_of_call(call: Call) -> str:
    named = call.asked.headers.get(HEADER) or call.asked.one("node")
    if named:
        return named
    return call.registry.name if is_loopback(call.caller) else call.caller
