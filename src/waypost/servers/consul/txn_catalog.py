"""Operations of ``/v1/txn`` on nodes, services and checks: from Consul's form, and back to it.

Whether one goes through is decided in the catalog, with the others.  Only the address of a service
that gives none is looked up here: it is that of its node, as set before in the transaction or as
known.

Source: Consul's documentation of transactions, and ``agent/consul/state/txn`` of 1.16.
"""

from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from waypost.catalog.keyspace import Miss
from waypost.catalog.transacting import Found
from waypost.checks import (
    Check,
    NodeEntry,
    check_check,
    check_check_id,
    check_node,
    check_node_name,
)
from waypost.commands import OnCheck, OnNode, OnService
from waypost.errors import Invalid
from waypost.servers.consul.bodies import UINT64_MAX
from waypost.servers.consul.catalog_writes import is_uuid
from waypost.servers.consul.check_forms import CheckForm, read_status
from waypost.servers.consul.names import node_of, qualified_id
from waypost.servers.consul.refusals import Refusal
from waypost.servers.consul.service_forms import ServiceForm, wanted, without_odd_weights
from waypost.servers.consul.shapes import Shapes, check

_Verb = Literal["get", "set", "delete"]
_VERBS: Final[dict[str, _Verb]] = {
    "get": "get",
    "set": "set",
    "cas": "set",
    "delete": "delete",
    "delete-cas": "delete",
}


class _NodeForm(msgspec.Struct):
    id: str = ""
    node: str = ""
    address: str = ""
    taggedaddresses: dict[str, str] = {}
    meta: dict[str, str] = {}
    modifyindex: int = 0


class _ServiceForm(ServiceForm):
    modifyindex: int = 0


class _CheckForm(CheckForm):
    node: str = ""
    modifyindex: int = 0


class NodeStep(msgspec.Struct):
    """``Node``; the names are folded (see ``bodies``), here and below."""

    verb: str = ""
    node: _NodeForm = msgspec.field(default_factory=_NodeForm)


class ServiceStep(msgspec.Struct):
    """``Service``."""

    verb: str = ""
    node: str = ""
    service: _ServiceForm = msgspec.field(default_factory=_ServiceForm)


class CheckStep(msgspec.Struct):
    """``Check``."""

    verb: str = ""
    check: _CheckForm = msgspec.field(default_factory=_CheckForm)


class Places:
    """Where nodes are, while the operations of one transaction are read in their order."""

    def __init__(self, address: Callable[[str], str], servers: dict[str, str]) -> None:
        """``address``: of a node, as far as known; ``servers``: the registry's own nodes."""
        self.servers = servers
        self._address = address
        self._set: dict[str, str] = {}

    def put(self, entry: NodeEntry) -> None:
        """It is set by the transaction."""
        if entry.address:
            self._set[entry.name] = entry.address

    def address(self, node: str) -> str:
        """Where a node is."""
        return self._set.get(node) or self._address(node)


def needs_address(step: Any) -> bool:
    """Whether it takes the address of a node."""
    if not isinstance(step, ServiceStep):
        return False
    return _VERBS.get(step.verb) == "set" and not step.service.address


def operation(
    step: NodeStep | ServiceStep | CheckStep, places: Places
) -> OnNode | OnService | OnCheck | str:
    """The operation, or what is wrong with it."""
    try:
        match step:
            case NodeStep():
                return _on_node(step, places)
            case ServiceStep():
                return _on_service(step, places)
            case CheckStep():
                return _on_check(step, places)
    except (Invalid, Refusal) as error:
        return error.message


def _on_node(step: NodeStep, places: Places) -> OnNode:
    form = step.node
    verb, cas = _verb(step.verb, "Node", form.modifyindex)
    if not form.node:
        raise Invalid("Must provide node")
    entry = NodeEntry(form.node)
    check_node_name(form.node)
    if verb == "set":
        if form.id and not is_uuid(form.id):
            raise Invalid(f"Bad node ID: {form.id[:80]!r} is not a UUID")
        entry = NodeEntry(form.node, form.address, form.id, form.taggedaddresses, form.meta)
        check_node(entry)
        places.put(entry)
    return OnNode(verb, entry, cas, form.node in places.servers)


def _on_service(step: ServiceStep, places: Places) -> OnService:
    form, node = step.service, step.node
    verb, cas = _verb(step.verb, "Service", form.modifyindex)
    if not node:
        raise Invalid("Must provide node")
    check_node_name(node)
    service_id, instance = form.id or form.name or form.service, None
    if verb == "set":
        if not (form.service or form.name):
            raise Invalid("Must provide service name (Service.Service) when service ID is provided")
        want = wanted(without_odd_weights(form))
        instance = want.instance(
            qualified_id(want.service_id, node), node, form.address or places.address(node)
        )
    elif not service_id:
        raise Invalid("Must provide service ID (Service.ID)")
    return OnService(verb, node, _ids(service_id, node), instance, cas, node in places.servers)


def _on_check(step: CheckStep, places: Places) -> OnCheck:
    form = step.check
    verb, cas = _verb(step.verb, "Check", form.modifyindex)
    check_id, node = form.checkid or form.id or form.name, form.node
    if not node:
        raise Invalid("Must provide node")
    if not check_id:
        raise Invalid("Must provide CheckID or Name of a check")
    check_node_name(node)
    check_check_id(check_id)
    what = Check(id=check_id, name=form.name or check_id, kind="manual", notes=form.notes)
    if verb == "set":
        check_check(what)
    return OnCheck(
        verb,
        node,
        what,
        _ids(form.serviceid, node) if form.serviceid else (),
        read_status(form.status, "critical"),
        form.output,
        cas,
        node in places.servers,
    )


def _verb(given: str, of: str, index: int) -> tuple[_Verb, int]:
    """What is to be done, and to which revision only; -1 stands for any."""
    verb = _VERBS.get(given)
    if verb is None:
        raise Invalid(f'unknown {of} verb "{given[:80]}"')
    if not 0 <= index <= UINT64_MAX:
        raise Invalid("ModifyIndex must be an unsigned number of 64 bits")
    return verb, index if given in ("cas", "delete-cas") else -1


def _ids(service_id: str, node: str) -> tuple[str, ...]:
    """What the instance of a service on a node may be called: see ``names``."""
    qualified = qualified_id(service_id, node)
    return (qualified,) if service_id.endswith(f"@{node}") else (qualified, service_id)


def what(step: NodeStep | ServiceStep | CheckStep, miss: Miss) -> str:
    """Why, in Consul's words."""
    match miss.kind:
        case "no-node":
            return "Missing node registration"
        case "no-service":
            return "Missing service registration"
        case "missing":
            return f"{_named(step)} doesn't exist"
        case "stale":
            verb = "delete" if step.verb == "delete-cas" else "set"
            return f"failed to {verb} {_named(step)}, index is stale"
        case _:
            return miss.found


def _named(step: NodeStep | ServiceStep | CheckStep) -> str:
    match step:
        case NodeStep():
            return f'node "{step.node.node}"'
        case ServiceStep():
            form = step.service
            return f'service "{form.id or form.name or form.service}" on node "{step.node}"'
        case CheckStep():
            held = step.check
            return f'check "{held.checkid or held.id or held.name}" on node "{held.node}"'


def shown(found: Found, shapes: Shapes) -> dict[str, Any]:
    """What a transaction read or set, as a result of Consul's."""
    record = found.record
    if found.check is not None:
        node = found.check.node if record is None else node_of(record.instance)
        return {"Check": check(found.check, node, record)}
    if record is not None:
        return {"Service": shapes.service(record)}
    assert found.entry is not None, "something was found"
    return {"Node": shapes.nodes.entry(found.entry)}
