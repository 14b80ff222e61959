"""``/v1/session``: what Consul calls a session is a holder of keys here.

Source: Consul's documentation of sessions, and ``agent/consul/session_endpoint`` of 1.16.
"""

from typing import Final, Literal

import msgspec

from waypost.catalog.holders import LOCK_DELAY_MS_MAX, Holder
from waypost.commands import OpenHolder
from waypost.errors import Invalid, UnknownHolder
from waypost.servers.consul.bodies import decode
from waypost.servers.consul.durations import parse_ns, read_ns, shown
from waypost.servers.consul.identity import Agent
from waypost.servers.consul.key_topics import HoldersTopic
from waypost.servers.consul.nodes import Nodes
from waypost.servers.consul.operations import Call, Operation, check_datacenter
from waypost.servers.consul.refusals import Refusal
from waypost.servers.consul.replies import Reply

_SERF: Final = "serfHealth"
_LOCK_DELAY_NS: Final = 15 * 10**9
_SMALL: Final = 1_000
"""A number below it is one of seconds: many mean that, where Go counts nanoseconds."""
_TTL_NS_MIN: Final = 10 * 10**9
_TTL_NS_MAX: Final = 24 * 3600 * 10**9


class _ServiceCheck(msgspec.Struct):
    id: str = ""


class _Create(msgspec.Struct):
    name: str = ""
    node: str = ""
    lockdelay: str | int | float = _LOCK_DELAY_NS
    behavior: str = ""
    ttl: str = ""
    checks: list[str] | None = None
    nodechecks: list[str] | None = None
    servicechecks: list[_ServiceCheck] = []


class ServiceCheckView(msgspec.Struct, rename="pascal", frozen=True):
    """A check of a service, as Consul shows it."""

    id: str = msgspec.field(name="ID")
    namespace: str = ""


class SessionView(msgspec.Struct, rename="pascal", frozen=True):
    """A holder as Consul shows it."""

    id: str = msgspec.field(name="ID")
    name: str
    node: str
    lock_delay: int
    behavior: str
    ttl: str = msgspec.field(name="TTL")
    node_checks: list[str]
    service_checks: list[ServiceCheckView] | None
    create_index: int
    modify_index: int


def session_view(holder: Holder) -> SessionView:
    """Show a holder."""
    checks = [ServiceCheckView(check_id) for check_id in holder.service_checks]
    return SessionView(
        holder.id,
        holder.name,
        holder.node,
        holder.lock_delay_ms * 1_000_000,
        holder.behavior,
        shown(holder.ttl_ms * 1_000_000) if holder.ttl_ms else "",
        list(holder.node_checks),
        checks or None,
        holder.created,
        holder.created,
    )


async def create(call: Call) -> Reply:
    """Open one, and tell its id."""
    check_datacenter(call.asked)
    content = await call.content()
    asked = decode(content, _Create) if content.strip() else _Create()
    if asked.behavior not in ("", "release", "delete"):
        raise Refusal(500, f"Invalid Behavior setting '{asked.behavior[:80]}'")
    behavior: Literal["release", "delete"]
    behavior = "delete" if asked.behavior == "delete" else "release"
    node_checks = asked.nodechecks if asked.checks is None else asked.checks
    node_checks = [_SERF] if node_checks is None else node_checks
    service_checks = [check.id for check in asked.servicechecks]
    if asked.node and not Nodes(call.registry.catalog, call.door.servers()).is_known(asked.node):
        raise Refusal(500, "Missing node registration")
    opened = OpenHolder(
        "",
        asked.name,
        asked.node or Agent(call).node,
        _ttl_ms(asked.ttl),
        behavior,
        _lock_delay_ms(asked.lockdelay),
        tuple(node_checks),
        tuple(service_checks),
    )
    try:
        revision, holder_id = await call.registry.keys.open(opened)
    except Invalid as error:
        raise Refusal(500, error.message) from None
    await call.written(revision)
    return call.plain({"ID": holder_id})


async def destroy(call: Call) -> Reply:
    """End one; one that is unknown has ended."""
    check_datacenter(call.asked)
    await call.written(await call.registry.keys.close(_id_of(call)))
    return call.plain(True)


async def renew(call: Call) -> Reply:
    """Keep one alive for another lease."""
    check_datacenter(call.asked)
    holder_id = _id_of(call)
    try:
        holder = await call.registry.keys.renew(holder_id)
    except UnknownHolder:
        raise Refusal(404, f"Session id '{holder_id[:200]}' not found") from None
    return call.plain([session_view(holder)])


async def info(call: Call) -> Reply:
    """Show one; an empty list if it is not open."""
    holder_id = _id_of(call)
    index = await call.read(HoldersTopic(call.registry.keys))
    holder = call.registry.keys.space.holders.find(holder_id)
    return call.reply([] if holder is None else [session_view(holder)], index)


async def of_node(call: Call) -> Reply:
    """Show those of a node."""
    node = call.rest
    if not node:
        raise Refusal(400, "Missing node name")
    index = await call.read(HoldersTopic(call.registry.keys))
    return call.reply(_all(call, node), index)


async def listing(call: Call) -> Reply:
    """Show all."""
    index = await call.read(HoldersTopic(call.registry.keys))
    return call.reply(_all(call), index)


def _all(call: Call, node: str | None = None) -> list[SessionView]:
    holders = call.registry.keys.space.holders.all()
    chosen = [each for each in holders if node is None or each.node == node]
    return [session_view(each) for each in sorted(chosen, key=lambda each: each.id)]


def _id_of(call: Call) -> str:
    if not call.rest:
        raise Refusal(400, "Missing session")
    return call.rest


def _ttl_ms(text: str) -> int:
    if not text:
        return 0
    try:
        ttl_ns = parse_ns(text)
    except ValueError as error:
        raise Refusal(500, f"Session TTL '{text[:80]}' invalid: {error}") from None
    if ttl_ns and not _TTL_NS_MIN <= ttl_ns <= _TTL_NS_MAX:
        limits = f"[{shown(_TTL_NS_MIN)}={shown(_TTL_NS_MAX)}]"
        raise Refusal(500, f"Invalid Session TTL '{text[:80]}', must be between {limits}")
    return ttl_ns // 1_000_000


def _lock_delay_ms(given: str | int | float) -> int:
    try:
        delay_ns = read_ns(given)
    except ValueError as error:
        raise Refusal(400, f"Request decode failed: {error}") from None
    if delay_ns < _SMALL:
        delay_ns *= 10**9
    return min(max(delay_ns // 1_000_000, 0), LOCK_DELAY_MS_MAX)


OPERATIONS = (
    Operation("PUT", "session/create", create),
    Operation("PUT", "session/destroy/", destroy),
    Operation("PUT", "session/renew/", renew),
    Operation("GET", "session/info/", info),
    Operation("GET", "session/node/", of_node),
    Operation("GET", "session/list", listing),
)
