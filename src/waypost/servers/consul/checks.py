"""``/v1/agent/check``, written: checks of what is on the node, and what they are told.

In Consul a check's id is its own on its agent; so one that is registered anew for another service
leaves the one that it had.
"""

import msgspec

from waypost.checks import CheckState, CheckStatus, NodeEntry
from waypost.commands import Command, DropCheck, PutCheck, PutNode
from waypost.servers.consul.check_forms import CheckForm, read_check, read_status
from waypost.servers.consul.identity import Agent
from waypost.servers.consul.operations import Call, Operation
from waypost.servers.consul.refusals import Refusal
from waypost.servers.consul.register import alias_target
from waypost.servers.consul.replies import Reply


class UpdateForm(msgspec.Struct):
    """What a check is told by ``update``."""

    status: str = ""
    output: str = ""


async def register(call: Call) -> Reply:
    """Give a check to a service of the node, or to the node."""
    form = await call.body(CheckForm)
    if not form.name:
        raise Refusal(400, "Missing check name")
    status = read_status(form.status, "critical")
    agent = Agent(call)
    service, instance_id, node = "", "", agent.node
    if form.serviceid:
        record = agent.find(form.serviceid)
        if record is None:
            await call.make_certain()
            record = agent.find(form.serviceid)
        if record is None:
            raise Refusal(404, f'ServiceID "{form.serviceid[:200]}" does not exist')
        service, instance_id, node = record.instance.service, record.instance.id, ""
    check_id = form.checkid or form.id or form.name
    check = read_check(form, check_id, form.name, alias_target(agent, form), call.scripts_on)
    commands: list[Command] = []
    if node and not (agent.is_server or agent.is_registered):
        commands.append(PutNode(NodeEntry(node, agent.address)))
    held = agent.find_check(check_id)
    if held is not None and (held.service, held.id, held.node) != (service, instance_id, node):
        commands.append(DropCheck(held.service, held.id, held.node, check_id))
    told = status if form.status else ""
    commands.append(PutCheck(service, instance_id, node, check, told, form.output))
    await call.write(commands)
    return Reply()


async def deregister(call: Call) -> Reply:
    """Take a check away."""
    state = await _found(call, Agent(call))
    await call.write([DropCheck(state.service, state.id, state.node, state.check.id)])
    return Reply()


async def passes(call: Call) -> Reply:
    """A check passes."""
    return await _report(call, "passing", call.asked.one("note"))


async def warns(call: Call) -> Reply:
    """A check warns."""
    return await _report(call, "warning", call.asked.one("note"))


async def fails(call: Call) -> Reply:
    """A check fails."""
    return await _report(call, "critical", call.asked.one("note"))


async def update(call: Call) -> Reply:
    """A check is told how it is."""
    form = await call.body(UpdateForm)
    if form.status not in ("passing", "warning", "critical"):
        raise Refusal(400, f"Invalid check status: '{form.status[:40]}'")
    return await _report(call, read_status(form.status, "critical"), form.output)


async def _found(call: Call, agent: Agent) -> CheckState:
    state = agent.find_check(call.rest)
    if state is None:
        await call.make_certain()
        state = agent.find_check(call.rest)
    if state is None:
        raise Refusal(
            404,
            f'Unknown check ID "{call.rest[:200]}". Ensure that the check ID is passed, not the '
            "check name.",
        )
    return state


async def _report(call: Call, status: CheckStatus, output: str) -> Reply:
    state = await _found(call, Agent(call))
    if state.check.kind != "ttl":
        raise Refusal(500, f'CheckID "{call.rest[:200]}" does not have associated TTL')
    await call.registry.report_check(
        state.service, state.id, state.check.id, status, output, node=state.node
    )
    return Reply()


OPERATIONS = (
    Operation("PUT", "agent/check/register", register),
    Operation("PUT", "agent/check/deregister/", deregister),
    Operation("PUT", "agent/check/pass/", passes),
    Operation("PUT", "agent/check/warn/", warns),
    Operation("PUT", "agent/check/fail/", fails),
    Operation("PUT", "agent/check/update/", update),
)
