"""``/v1/health``: services with their nodes and checks, and checks by node, service and state."""

from typing import Any, Final

from waypost.servers.consul.entries import passes
from waypost.servers.consul.listing import (
    CHECK_FIELDS,
    ENTRY_FIELDS,
    by_check,
    chosen_checks,
    chosen_entries,
)
from waypost.servers.consul.names import node_of, read_name
from waypost.servers.consul.nodes import CONSUL
from waypost.servers.consul.operations import Call, Operation
from waypost.servers.consul.refusals import Refusal
from waypost.servers.consul.replies import JSON, Reply
from waypost.servers.consul.shapes import Shapes

_STATES: Final = ("any", "passing", "warning", "critical")


async def service(call: Call) -> Reply:
    """The instances of a service, each with its node and its checks."""
    name = _name(call)
    test = call.filter(ENTRY_FIELDS)
    is_passing = call.asked.is_set("passing")
    index = await call.read(call.door.topic(name))
    if test is None and not call.asked.is_narrowed:
        body = call.door.entries(name, is_passing=is_passing)
        return Reply(body, 200, JSON, call.headers(index))
    entries = chosen_entries(call, call.shapes().health_entries(name), test)
    if is_passing:
        entries = [each for each in entries if passes(each["Checks"])]
    return call.reply(entries, index)


async def node(call: Call) -> Reply:
    """All checks of a node, and of what runs on it."""
    test = call.filter(CHECK_FIELDS)
    index = await call.read(call.door.checks)
    shapes = call.shapes()
    name = call.rest
    if not shapes.nodes.is_known(name):
        return call.reply([], index)
    found = [*shapes.node_checks(name), *_service_checks(call, shapes, node=name)]
    return call.reply(chosen_checks(call, found, test), index)


async def checks(call: Call) -> Reply:
    """The checks of a service's instances."""
    name = _name(call)
    test = call.filter(CHECK_FIELDS)
    index = await call.read(call.door.topic(name))
    found = _checks_of(call.shapes(), name)
    return call.reply(chosen_checks(call, found, test), index)


async def state(call: Call) -> Reply:
    """All checks that are in a state."""
    wanted = call.rest
    if wanted not in _STATES:
        raise Refusal(400, f"Invalid check status: '{wanted[:40]}': use {', '.join(_STATES)}")
    test = call.filter(CHECK_FIELDS)
    index = await call.read(call.door.checks)

    def make() -> list[dict[str, Any]]:
        shapes = call.shapes()
        found = [each for name in shapes.nodes.all() for each in shapes.node_checks(name)]
        found += _service_checks(call, shapes)
        if wanted != "any":
            found = [each for each in found if each["Status"] == wanted]
        return chosen_checks(call, found, test)

    return call.reply_kept(f"state {wanted}", call.door.checks, index, make)


def _service_checks(call: Call, shapes: Shapes, node: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in call.registry.catalog.service_names():
        found += _checks_of(shapes, name, node)
    return sorted(found, key=by_check)


def _checks_of(shapes: Shapes, name: str, node: str = "") -> list[dict[str, Any]]:
    records = shapes.records(name)
    usable = shapes.usable(records)
    return [
        check
        for record in records
        if not node or node_of(record.instance) == node
        for check in shapes.own_checks(record, record.instance.id in usable)
    ]


def _name(call: Call) -> str:
    if not call.rest:
        raise Refusal(400, "Missing service name")
    return CONSUL if call.rest == CONSUL else read_name(call.rest)


OPERATIONS = (
    Operation("GET", "health/service/", service),
    Operation("GET", "health/node/", node),
    Operation("GET", "health/checks/", checks),
    Operation("GET", "health/state/", state),
)
