"""``/v1/agent``, read: who it is, what is on its node, and how that is.  See ``identity``."""

import hashlib
from typing import Any, Final

from waypost import __version__
from waypost.model import Record
from waypost.servers.consul.blocking import remaining
from waypost.servers.consul.identity import Agent
from waypost.servers.consul.listing import CHECK_FIELDS, SERVICE_FIELDS
from waypost.servers.consul.nodes import DATACENTER, host_of, port_of
from waypost.servers.consul.operations import Call, Operation
from waypost.servers.consul.refusals import Refusal
from waypost.servers.consul.replies import PLAIN, Reply, encode_json
from waypost.servers.consul.shapes import Shapes

CONSUL_VERSION: Final = "1.16.4"
"""Whose behaviour this door has: clients read it to know what they may ask."""
_EPOCH: Final = "1970-01-01T00:00:00Z"
_CODES: Final = {"passing": 200, "warning": 429, "critical": 503, "maintenance": 503}
_MAINTENANCES: Final = ("_node_maintenance", "_service_maintenance:")


async def self_(call: Call) -> Reply:
    """The agent: its node, and this server."""
    agent, door = Agent(call), call.door
    shown = agent.nodes.shown(agent.node, agent.address)
    leader = dict(door.servers()).get(call.registry.leader, "")
    config = {
        "Datacenter": DATACENTER,
        "PrimaryDatacenter": DATACENTER,
        "NodeName": agent.node,
        "NodeID": shown["ID"],
        "Partition": "",
        "Revision": "",
        "Server": agent.is_server,
        "Version": CONSUL_VERSION,
        "BuildDate": _EPOCH,
    }
    consul = {
        "bootstrap": "false",
        "known_datacenters": "1",
        "leader": str(call.registry.source == "leader").lower(),
        "leader_addr": leader,
        "server": str(agent.is_server).lower(),
    }
    return call.plain(
        {
            "Config": config,
            "DebugConfig": {},
            "Coord": {"Vec": [0.0] * 8, "Error": 1.5, "Adjustment": 0.0, "Height": 1e-05},
            "Member": _member(agent.node, f"{shown['Address']}:{port_of(door.address)}"),
            "Stats": {"consul": consul, "waypost": {"version": __version__}},
            "Meta": shown["Meta"],
            "xDS": None,
        }
    )


async def members(call: Call) -> Reply:
    """The servers."""
    return call.plain([_member(name, address) for name, address in call.door.servers()])


async def version(call: Call) -> Reply:
    """Whose behaviour it has."""
    return call.plain({"SHA": "", "BuildDate": _EPOCH, "HumanVersion": CONSUL_VERSION, "FIPS": ""})


async def services(call: Call) -> Reply:
    """What is on the node, by id."""
    test = call.filter(SERVICE_FIELDS)
    shapes = call.shapes()
    found = [shapes.agent_service(record) for record in Agent(call).records()]
    return call.plain({each["ID"]: each for each in found if test is None or test(each)})


async def checks(call: Call) -> Reply:
    """The checks of what is on the node, and of the node, by id."""
    test = call.filter(CHECK_FIELDS)
    agent, shapes = Agent(call), call.shapes()
    found = list(shapes.stored_node_checks(agent.node))
    for record in agent.records():
        found += shapes.own_checks(record, _is_usable(call, shapes, record))
    found.sort(key=lambda each: each["CheckID"])
    return call.plain({each["CheckID"]: each for each in found if test is None or test(each)})


async def service(call: Call) -> Reply:
    """One service of the node; with ``hash``, once it is another one."""
    agent = Agent(call)
    record = agent.find(call.rest)
    if record is None:
        raise Refusal(404, f"unknown service ID: {call.rest[:200]}")
    known, left_s = call.asked.one("hash"), remaining(call.asked.wait_s)
    shown = _hashed(call, record)
    while known == shown["ContentHash"] and (seconds := left_s()) > 0:
        name = record.instance.service
        await call.hold(call.door.topic(name), call.registry.revision, seconds)
        if call.door.waits.is_closing:
            break
        record = agent.find(call.rest)
        if record is None:
            raise Refusal(404, f"unknown service ID: {call.rest[:200]}")
        shown = _hashed(call, record)
    reply = call.plain(shown)
    reply.headers = [(b"x-consul-contenthash", shown["ContentHash"].encode())]
    return reply


async def health_by_id(call: Call) -> Reply:
    """How a service of the node is, as a status, a word or JSON."""
    record = Agent(call).find(call.rest)
    if record is None:
        return _told(call, 404, f"ServiceId {call.rest[:200]} not found", None)
    shown = _aggregated(call, record)
    status = shown["AggregatedStatus"]
    return _told(call, _CODES[status], status, shown)


async def health_by_name(call: Call) -> Reply:
    """How the worst of the node's instances of a service is."""
    records = Agent(call).named(call.rest)
    if not records:
        return _told(call, 404, f"ServiceName {call.rest[:200]} Not Found", None)
    shown = [_aggregated(call, record) for record in records]
    worst = max((each["AggregatedStatus"] for each in shown), key=list(_CODES).index)
    return _told(call, _CODES[worst], worst, shown)


def _member(name: str, address: str) -> dict[str, Any]:
    return {
        "Name": name,
        "Addr": host_of(address),
        "Port": port_of(address),
        "Tags": {"role": "consul", "dc": DATACENTER},
        "Status": 1,
        "ProtocolMin": 1,
        "ProtocolMax": 5,
        "ProtocolCur": 2,
        "DelegateMin": 2,
        "DelegateMax": 5,
        "DelegateCur": 4,
    }


def _is_usable(call: Call, shapes: Shapes, record: Record) -> bool:
    records = (call.registry.catalog.service(record.instance.service) or {}).values()
    return record.instance.id in shapes.usable(records)


def _hashed(call: Call, record: Record) -> dict[str, Any]:
    shown = call.shapes().agent_service(record)
    digest = hashlib.blake2b(encode_json(shown), digest_size=8).hexdigest()
    return {**shown, "ContentHash": digest}


def _aggregated(call: Call, record: Record) -> dict[str, Any]:
    shapes = call.shapes()
    found = shapes.checks(record, is_usable=_is_usable(call, shapes, record))
    if any(each["CheckID"].startswith(_MAINTENANCES) for each in found):
        status = "maintenance"
    else:
        status = max((each["Status"] for each in found), key=list(_CODES).index)
    return {
        "AggregatedStatus": status,
        "Service": shapes.agent_service(record),
        "Checks": found,
    }


def _told(call: Call, code: int, reason: str, shown: Any) -> Reply:
    wants_text = call.asked.one("format") == "text" or call.asked.headers.get(
        "accept", ""
    ).startswith("text/plain")
    reply = Reply(reason.encode(), code, PLAIN)
    if not wants_text and shown is not None:
        reply = call.plain(shown)
        reply.status = code
    reply.headers = [(b"x-consul-reason", reason.encode("latin-1", "replace"))]
    return reply


OPERATIONS = (
    Operation("GET", "agent/self", self_),
    Operation("GET", "agent/members", members),
    Operation("GET", "agent/version", version),
    Operation("GET", "agent/services", services),
    Operation("GET", "agent/service/", service),
    Operation("GET", "agent/checks", checks),
    Operation("GET", "agent/health/service/id/", health_by_id),
    Operation("GET", "agent/health/service/name/", health_by_name),
)
