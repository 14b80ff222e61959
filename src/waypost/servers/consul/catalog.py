"""``/v1/catalog``: services, nodes, and what runs where."""

from typing import Any

from waypost.servers.consul.listing import (
    FLAT_FIELDS,
    NODE_FIELDS,
    SERVICE_FIELDS,
    chosen_flat,
    has_pairs,
    wanted_meta,
)
from waypost.servers.consul.names import node_of, read_name, shown_name
from waypost.servers.consul.nodes import CONSUL, DATACENTER
from waypost.servers.consul.operations import Call, Operation
from waypost.servers.consul.refusals import Refusal
from waypost.servers.consul.replies import Reply
from waypost.servers.consul.shapes import Shapes


async def datacenters(call: Call) -> Reply:
    """There is one."""
    return call.plain([DATACENTER])


async def services(call: Call) -> Reply:
    """All services, each with all its tags."""
    test = call.filter(FLAT_FIELDS)
    meta = wanted_meta(call)
    table = call.door.tags if test is None and not meta else call.door.checks
    index = await call.read(table)
    if test is None and not meta:

        def make() -> dict[str, Any]:
            rows = {shown_name(name): tags for name, tags in call.door.tags.rows.items()}
            return dict(sorted({**rows, CONSUL: ()}.items()))

        return call.reply_kept("services", table, index, make)
    shapes = call.shapes()
    tags: dict[str, set[str]] = {}
    for name in (CONSUL, *call.registry.catalog.service_names()):
        for entry in chosen_flat(call, shapes.catalog_entries(name), test):
            tags.setdefault(entry["ServiceName"], set()).update(entry["ServiceTags"])
    return call.reply({name: sorted(tags[name]) for name in sorted(tags)}, index)


async def service(call: Call) -> Reply:
    """The instances of a service, each in one with its node."""
    if not call.rest:
        raise Refusal(400, "Missing service name")
    name = CONSUL if call.rest == CONSUL else read_name(call.rest)
    test = call.filter(FLAT_FIELDS)
    index = await call.read(call.door.topic(name))
    return call.reply(chosen_flat(call, call.shapes().catalog_entries(name), test), index)


async def nodes(call: Call) -> Reply:
    """All nodes."""
    test = call.filter(NODE_FIELDS)
    index = await call.read(call.door.nodes)

    def make() -> list[dict[str, Any]]:
        shown, meta = call.shapes().nodes, wanted_meta(call)
        found = [shown.shown(name, otherwise) for name, otherwise in shown.all().items()]
        if meta:
            found = [each for each in found if has_pairs(each["Meta"], meta)]
        return found if test is None else [each for each in found if test(each)]

    return call.reply_kept("nodes", call.door.nodes, index, make)


async def node(call: Call) -> Reply:
    """One node and the services on it, by id; null for an unknown one."""
    test = call.filter(SERVICE_FIELDS)
    index = await call.read(call.door.checks)
    shapes = call.shapes()
    found = _on_node(call, shapes)
    if found is None:
        return call.reply(None, index)
    shown = {each["ID"]: each for each in found if test is None or test(each)}
    return call.reply({"Node": _shown_node(call, shapes), "Services": shown}, index)


async def node_services(call: Call) -> Reply:
    """One node and the services on it, as a list."""
    test = call.filter(SERVICE_FIELDS)
    index = await call.read(call.door.checks)
    shapes = call.shapes()
    found = _on_node(call, shapes)
    if found is None:
        return call.reply({"Node": None, "Services": []}, index)
    shown = [each for each in found if test is None or test(each)]
    return call.reply({"Node": _shown_node(call, shapes), "Services": shown}, index)


def _shown_node(call: Call, shapes: Shapes) -> dict[str, Any]:
    return shapes.nodes.shown(call.rest, shapes.nodes.all().get(call.rest, ""))


def _on_node(call: Call, shapes: Shapes) -> list[dict[str, Any]] | None:
    name, catalog = call.rest, call.registry.catalog
    if not name:
        raise Refusal(400, "Missing node name")
    if not shapes.nodes.is_known(name):
        return None
    found = [
        shapes.service(record)
        for service_name in catalog.service_names()
        for record in shapes.records(service_name)
        if node_of(record.instance) == name
    ]
    if name in shapes.nodes.servers:
        found += [
            each["Service"]
            for each in shapes.health_entries(CONSUL)
            if each["Node"]["Node"] == name
        ]
    return sorted(found, key=lambda each: each["ID"])


OPERATIONS = (
    Operation("GET", "catalog/datacenters", datacenters),
    Operation("GET", "catalog/services", services),
    Operation("GET", "catalog/service/", service),
    Operation("GET", "catalog/nodes", nodes),
    Operation("GET", "catalog/node/", node),
    Operation("GET", "catalog/node-services/", node_services),
)
