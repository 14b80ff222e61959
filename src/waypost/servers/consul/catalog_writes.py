"""``/v1/catalog/register`` and ``deregister``: nodes, services and checks, without an agent.

What is said of a check here is all that is known of it: nobody probes it.
"""

import re
from typing import Final

import msgspec

from waypost.catalog.directory import Directory
from waypost.checks import Check, NodeEntry, check_node
from waypost.commands import Command, Deregister, DropCheck, DropNode, PutCheck, PutNode, Register
from waypost.errors import Invalid
from waypost.model import Record
from waypost.servers.consul.check_forms import CheckForm, read_status
from waypost.servers.consul.identity import instance_id
from waypost.servers.consul.names import node_of, service_id_of
from waypost.servers.consul.nodes import Nodes
from waypost.servers.consul.operations import Call, Operation, check_named_datacenter
from waypost.servers.consul.refusals import Refusal
from waypost.servers.consul.replies import Reply
from waypost.servers.consul.service_forms import ServiceForm, wanted, without_odd_weights

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class RegisterForm(msgspec.Struct):
    """A node, and what is on it; the names are folded (see ``bodies``)."""

    datacenter: str = ""
    id: str = ""
    node: str = ""
    address: str = ""
    taggedaddresses: dict[str, str] = {}
    nodemeta: dict[str, str] = {}
    service: ServiceForm | None = None
    check: CheckForm | None = None
    checks: list[CheckForm] = []
    skipnodeupdate: bool = False


class DeregisterForm(msgspec.Struct):
    """A node, or one service or check of it."""

    datacenter: str = ""
    node: str = ""
    serviceid: str = ""
    checkid: str = ""


def is_uuid(text: str) -> bool:
    """Whether it may be the id of a node."""
    return _UUID.fullmatch(text) is not None


async def register(call: Call) -> Reply:
    """Register a node, and with it a service and checks."""
    form = await call.body(RegisterForm)
    check_named_datacenter(form.datacenter)
    if not form.node:
        raise Refusal(500, "Must provide node")
    if not form.address and not form.skipnodeupdate:
        raise Refusal(500, "Must provide address if SkipNodeUpdate is not set")
    if form.id and not is_uuid(form.id):
        raise Refusal(500, f"Bad node ID: {form.id[:80]!r} is not a UUID")
    catalog = call.registry.catalog
    commands: list[Command] = []
    entry = NodeEntry(form.node, form.address, form.id, form.taggedaddresses, form.nodemeta)
    if not form.skipnodeupdate:
        try:
            check_node(entry)
        except Invalid as error:
            raise Refusal(500, error.message) from None
        commands.append(PutNode(entry))
    placed = dict[str, tuple[str, str]]()
    if form.service is not None:
        commands += _service_commands(call, form, form.service, placed)
    for each in (*([form.check] if form.check is not None else []), *form.checks):
        if not each.is_empty:
            commands.append(_check_command(catalog, form.node, each, placed))
    await call.write(commands)
    return call.plain(True)


async def deregister(call: Call) -> Reply:
    """Remove a service, a check, or a node with all that is on it; what is gone may go again."""
    form = await call.body(DeregisterForm)
    check_named_datacenter(form.datacenter)
    if not form.node:
        raise Refusal(500, "Must provide node")
    await call.make_certain()
    catalog = call.registry.catalog
    records = _on_node(catalog, form.node)
    if form.serviceid:
        records = [each for each in records if service_id_of(each.instance) == form.serviceid]
    commands: list[Command] = []
    if form.checkid and not form.serviceid:
        owners = [("", "", form.node)]
        owners += [(each.instance.service, each.instance.id, "") for each in records]
        commands = [
            DropCheck(*owner, form.checkid)
            for owner in owners
            if _has(catalog, owner, form.checkid)
        ]
    else:
        commands = [Deregister(each.instance.service, each.instance.id) for each in records]
        is_known = form.node in catalog.nodes.entries or catalog.checks.of_node(form.node)
        if not form.serviceid and is_known:
            commands.append(DropNode(form.node))
    await call.write(commands, may_be_gone=True)
    return call.plain(True)


def _service_commands(
    call: Call, form: RegisterForm, service: ServiceForm, placed: dict[str, tuple[str, str]]
) -> list[Command]:
    if not (service.service or service.name):
        raise Refusal(
            500, "Must provide service name (Service.Service) when service ID is provided"
        )
    catalog = call.registry.catalog
    want = wanted(without_odd_weights(service))
    records = catalog.service(want.service) or {}
    name = instance_id(records, want.service_id, form.node, is_alone=False)
    address = form.address or Nodes(catalog, call.door.servers()).address(form.node, "127.0.0.1")
    commands: list[Command] = [
        Deregister(each.instance.service, each.instance.id)
        for each in _on_node(catalog, form.node)
        if service_id_of(each.instance) == want.service_id and each.instance.service != want.service
    ]
    placed[want.service_id] = want.service, name
    return [*commands, Register(want.instance(name, form.node, address))]


def _check_command(
    catalog: Directory, node: str, form: CheckForm, placed: dict[str, tuple[str, str]]
) -> PutCheck:
    check_id = form.checkid or form.id or form.name
    if not check_id:
        raise Refusal(500, "Must provide CheckID or Name of a check")
    service, instance, of_node = "", "", node
    if form.serviceid:
        found = placed.get(form.serviceid) or next(
            (
                (each.instance.service, each.instance.id)
                for each in _on_node(catalog, node)
                if service_id_of(each.instance) == form.serviceid
            ),
            None,
        )
        if found is None:
            raise Refusal(500, f'ServiceID "{form.serviceid[:200]}" is not registered on the node')
        service, instance = found
        of_node = ""
    check = Check(id=check_id, name=form.name or check_id, kind="manual", notes=form.notes)
    status = read_status(form.status, "critical")
    return PutCheck(service, instance, of_node, check, status, form.output)


def _on_node(catalog: Directory, node: str) -> list[Record]:
    return [
        record
        for name in catalog.service_names()
        for record in (catalog.service(name) or {}).values()
        if node_of(record.instance) == node
    ]


def _has(catalog: Directory, owner: tuple[str, str, str], check_id: str) -> bool:
    service, instance, node = owner
    return catalog.checks.find((service, instance), node, check_id) is not None


OPERATIONS = (
    Operation("PUT", "catalog/register", register),
    Operation("PUT", "catalog/deregister", deregister),
)
