"""``/v1/agent/service``, written: register, deregister, maintenance.  See ``identity``.

What belongs together is one log entry: the node, the service and its checks come at once.
"""

from waypost.catalog.directory import Directory
from waypost.checks import Check, NodeEntry
from waypost.commands import (
    Command,
    Deregister,
    DropCheck,
    DropNode,
    PutCheck,
    PutNode,
    Register,
    SetHealth,
)
from waypost.model import Record
from waypost.servers.consul.check_forms import CheckForm, read_check, read_status
from waypost.servers.consul.identity import Agent
from waypost.servers.consul.names import service_id_of, shown_name
from waypost.servers.consul.operations import Call, Operation
from waypost.servers.consul.refusals import Refusal
from waypost.servers.consul.replies import Reply
from waypost.servers.consul.service_forms import ServiceForm, Wanted, wanted
from waypost.servers.consul.shapes import MAINTENANCE

NODE_MAINTENANCE = "_node_maintenance"
_NO_REASON = (
    "Maintenance mode is enabled for this {}, but no reason was provided. "
    "This is a default message."
)


async def register(call: Call) -> Reply:
    """Register a service on the node, or replace it; its checks keep how they are."""
    want = wanted(await call.body(ServiceForm))
    agent = Agent(call)
    address = agent.address
    instance_id = agent.instance_id(want.service, want.service_id)
    instance = want.instance(instance_id, agent.node, address)
    forms = [*([want.form.check] if want.form.check is not None else []), *want.form.checks]
    forms = [form for form in forms if not form.is_empty]
    held = call.registry.catalog.checks.own((want.service, instance_id))
    known = {state.check.id for state in held}
    commands = _node_commands(agent, address)
    moved = agent.find(want.service_id)
    if moved is not None and moved.instance.service != want.service:
        commands.append(Deregister(moved.instance.service, moved.instance.id))
    commands.append(Register(instance))
    for number, form in enumerate(forms, 1):
        check = _check_of_service(call, agent, want, form, number, len(forms))
        given = read_status(form.status, "critical")
        status = given if form.status and check.id not in known else ""
        commands.append(PutCheck(want.service, instance_id, "", check, status, form.output))
        known.discard(check.id)
    if call.asked.is_set("replace-existing-checks"):
        commands += [
            DropCheck(want.service, instance_id, "", check_id) for check_id in sorted(known)
        ]
    await call.write(commands)
    return Reply()


async def deregister(call: Call) -> Reply:
    """Remove a service from the node, and its checks with it."""
    agent = Agent(call)
    record = await found(call, agent, call.rest)
    instance = record.instance
    commands: list[Command] = [Deregister(instance.service, instance.id)]
    if is_last(call.registry.catalog, agent.node, 1):
        commands.append(DropNode(agent.node))
    await call.write(commands, may_be_gone=True)
    return Reply()


async def maintenance(call: Call) -> Reply:
    """Take a service out of use, or back into it."""
    is_on, reason = _enable(call, "service")
    if not call.rest:
        raise Refusal(400, "Missing service ID")
    record = await found(call, Agent(call), call.rest)
    instance = record.instance
    check_id = f"{MAINTENANCE}{service_id_of(instance)}"
    if is_on:
        check = Check(id=check_id, name="Service Maintenance Mode", kind="manual", notes=reason)
        await call.write([PutCheck(instance.service, instance.id, "", check, "critical")])
        return Reply()
    commands: list[Command] = []
    held = call.registry.catalog.checks.own((instance.service, instance.id))
    if any(state.check.id == check_id for state in held):
        commands.append(DropCheck(instance.service, instance.id, "", check_id))
    if record.health == "draining":  # which is shown as maintenance, so this ends it
        commands.append(SetHealth(instance.service, instance.id, "passing"))
    await call.write(commands)
    return Reply()


async def node_maintenance(call: Call) -> Reply:
    """Take all that is on the node out of use, or back into it."""
    is_on, reason = _enable(call, "node")
    agent = Agent(call)
    if is_on:
        check = Check(
            id=NODE_MAINTENANCE, name="Node Maintenance Mode", kind="manual", notes=reason
        )
        await call.write([PutCheck("", "", agent.node, check, "critical")])
    elif any(
        state.check.id == NODE_MAINTENANCE
        for state in call.registry.catalog.checks.of_node(agent.node)
    ):
        await call.write([DropCheck("", "", agent.node, NODE_MAINTENANCE)])
    return Reply()


async def found(call: Call, agent: Agent, service_id: str) -> Record:
    """The instance of a service on the node; that there is none is looked up for certain."""
    record = agent.find(service_id)
    if record is None:
        await call.make_certain()
        record = agent.find(service_id)
    if record is None:
        raise Refusal(
            404,
            f'Unknown service ID "{service_id[:200]}". Ensure that the service ID is passed, not '
            "the service name.",
        )
    return record


def is_last(catalog: Directory, node: str, going: int) -> bool:
    """Whether a node has an entry only for its services' sake, and the last of them goes."""
    entry = catalog.nodes.entries.get(node)
    return (
        entry is not None
        and entry == NodeEntry(node, entry.address, revision=entry.revision)
        and len(catalog.nodes.on(node)) == going
        and not catalog.checks.of_node(node)
    )


def alias_target(agent: Agent, form: CheckForm) -> str:
    """The instance that an alias check is as."""
    if not form.aliasservice:
        return ""
    record = agent.find(form.aliasservice)
    if record is None:
        raise Refusal(404, f'ServiceID "{form.aliasservice[:200]}" does not exist')
    return f"{record.instance.service}/{record.instance.id}"


def _node_commands(agent: Agent, address: str) -> list[Command]:
    """A node with a name of its own is registered, or nobody would know its address."""
    if agent.is_server or address == agent.node or agent.is_registered:
        return []
    return [PutNode(NodeEntry(agent.node, address))]


def _check_of_service(
    call: Call, agent: Agent, want: Wanted, form: CheckForm, number: int, count: int
) -> Check:
    check_id = form.checkid or form.id
    default = f"service:{want.service_id}" + (f":{number}" if count > 1 else "")
    name = form.name or f"Service '{shown_name(want.service)}' check"
    return read_check(form, check_id or default, name, alias_target(agent, form), call.scripts_on)


def _enable(call: Call, what: str) -> tuple[bool, str]:
    if "enable" not in call.asked:
        raise Refusal(400, "Missing value for enable")
    given = call.asked.one("enable")
    if not given:
        raise Refusal(400, 'Invalid value for enable: ""')
    return call.asked.is_set("enable"), call.asked.one("reason") or _NO_REASON.format(what)


OPERATIONS = (
    Operation("PUT", "agent/service/register", register),
    Operation("PUT", "agent/service/deregister/", deregister),
    Operation("PUT", "agent/service/maintenance/", maintenance),
    Operation("PUT", "agent/maintenance", node_maintenance),
)
