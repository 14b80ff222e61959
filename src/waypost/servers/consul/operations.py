"""What an operation of the API is, and one call of it.

Each module of endpoints ends with its ``OPERATIONS``; ``routes`` puts them together.  A path that
ends with a slash takes all that follows it, slashes included, as ``call.rest``.
"""

import contextlib
import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec
from starlette.types import Receive

from waypost.catalog.nodes import Key
from waypost.checks import PROBE_HEADER, NodeName
from waypost.commands import CheckCommand, Command, Sweep
from waypost.errors import (
    TooStale,
    Unavailable,
    UnknownCheck,
    UnknownInstance,
    UnknownNode,
    UnknownService,
)
from waypost.model import PLAIN_QUERY, Revision
from waypost.node.check_verbs import check_check_command
from waypost.node.refusal import raised
from waypost.node.registry import Registry
from waypost.servers.consul.asked import Asked
from waypost.servers.consul.blocking import Topic, Waits
from waypost.servers.consul.bodies import decode
from waypost.servers.consul.entries import Entries
from waypost.servers.consul.filters import Test, parse
from waypost.servers.consul.nodes import CONSUL, DATACENTER
from waypost.servers.consul.refusals import NoLeader, Refusal
from waypost.servers.consul.replies import JSON, Header, Reply, encode_json, json_reply
from waypost.servers.consul.shapes import Shapes
from waypost.servers.consul.tables import Table, any_digest, nodes_digest, tags_digest
from waypost.servers.consul.topics import CONSTANT, Services
from waypost.servers.web.requests import read_body
from waypost.wire import Resolve

_T = TypeVar("_T")
PLACES_MAX: Final = 65_536
_GONE: Final = (UnknownService, UnknownInstance, UnknownCheck, UnknownNode)


class Places:
    """Where something was found last: to look there first, so that it may well be wrong."""

    def __init__(self) -> None:
        self._kept: dict[tuple[NodeName, str], Key] = {}

    def get(self, name: tuple[NodeName, str]) -> Key | None:
        """Where to look first."""
        return self._kept.get(name)

    def put(self, name: tuple[NodeName, str], key: Key) -> None:
        """It was there."""
        if len(self._kept) >= PLACES_MAX:
            self._kept.clear()
        self._kept[name] = key


class Door:
    """What operations work with: the registry, and the door's own state."""

    def __init__(self, registry: Registry, address: str) -> None:
        self.registry = registry
        self.address = address
        """Of this node's native port."""
        self.waits = Waits(registry)
        self._services = Services(registry)
        self._entries = Entries(registry)
        self._kept: dict[str, tuple[object, bytes]] = {}
        self.tags = Table(registry, tags_digest, lambda: 0)
        """Which services there are, and their tags."""
        self.nodes = Table(registry, nodes_digest, registry.nodes_revision)
        """Which nodes there are."""
        self.checks = Table(
            registry,
            any_digest,
            lambda: max(registry.nodes_revision(), registry.checks_revision()),
        )
        """How everybody is, and where."""
        self.places = Places()
        """Where the services of a node were found last, by node and id."""
        self.check_places = Places()
        """Where the checks of a node were found last, by node and id."""

    def servers(self) -> list[tuple[str, str]]:
        """The nodes of this registry and their native addresses, by name."""
        return self.registry.servers() or [(self.registry.name, self.address)]

    def kept(self, name: str, table: Table, make: Callable[[], Any]) -> bytes:
        """What ``make`` makes of a table, as JSON, encoded once until the table changes."""
        state = table.index(), self.servers()
        held = self._kept.get(name)
        if held is None or held[0] != state:
            held = self._kept[name] = state, encode_json(make())
        return held[1]

    def entries(self, service: str, *, is_passing: bool) -> bytes:
        """A service as ``health/service`` shows it, encoded once until it changes."""
        return self._entries.body(service, self.servers, is_passing=is_passing)

    def topic(self, service: str) -> Topic:
        """What is read of one service; the service of the servers does not change."""
        return CONSTANT if service == CONSUL else self._services.topic(service)


_RELAYED: Final = ("forwarded", "x-forwarded-for", "via", "origin", PROBE_HEADER)
"""Headers of requests that others wrote than who sends them: a proxy, a browser, a health check."""


class Call:
    """One request to an operation."""

    __slots__ = ("_receive", "asked", "caller", "door", "method", "registry", "rest")

    def __init__(
        self,
        door: Door,
        method: str,
        rest: str,
        asked: Asked,
        caller: str,
        receive: Receive,
    ) -> None:
        self.door = door
        self.registry = door.registry
        self.method = method
        self.rest = rest
        """The part of the path that the operation leaves open, percent-decoded."""
        self.asked = asked
        self.caller = caller
        """The address of the client."""
        self._receive = receive

    @property
    def scripts_on(self) -> NodeName:
        """This node, if it runs scripts and a program on its machine calls; else nothing."""
        is_here = bool(self.caller) and is_loopback(self.caller)
        is_relayed = any(name in self.asked.headers for name in _RELAYED)
        return self.registry.scripts_on if is_here and not is_relayed else ""

    async def content(self) -> bytes:
        """The body as it is."""
        return await read_body(self._receive, self.asked.headers)

    async def body(self, form: type[_T]) -> _T:
        """The body, decoded."""
        return decode(await self.content(), form)

    async def read(self, topic: Topic) -> Revision:
        """Wait until the answer may be made, as consistent and as new as is asked for.

        Returns its index; make the answer before anything else is awaited.
        """
        asked = self.asked
        check_datacenter(asked)
        asked.check_cache_control()
        since, wait_s = asked.index, asked.wait_s
        await self._make_fresh()
        if self.registry.revision == 0:
            # No index may be 0, and whoever was told 1 of nothing would miss the first change.
            with contextlib.suppress(Unavailable):
                await self.registry.write([Sweep()])
        return await self.hold(topic, since, wait_s)

    async def hold(self, topic: Topic, since: Revision, wait_s: float) -> Revision:
        """Wait until a topic has changed since, or the time is up."""
        return await self.door.waits.hold(topic, since, wait_s, self._receive)

    async def _make_fresh(self) -> None:
        registry, consistency = self.registry, self.asked.consistency
        try:
            if consistency == "consistent":
                await registry.make_fresh(Resolve("", PLAIN_QUERY, "linearizable"))
            elif consistency == "stale":
                max_stale_ms = self.asked.max_stale_ms
                try:
                    await registry.make_fresh(Resolve("", PLAIN_QUERY, "default", max_stale_ms))
                except TooStale:  # then Consul asks the leader
                    await registry.make_fresh(Resolve("", PLAIN_QUERY, "linearizable"))
        except Unavailable as error:
            if not registry.leader:
                raise NoLeader(f"No cluster leader: {error.message}") from None
            raise

    async def make_certain(self) -> None:
        """Come as far as whatever was acknowledged before, on any node."""
        await self.registry.make_fresh(Resolve("", PLAIN_QUERY, "linearizable"))

    async def write(self, commands: list[Command], *, may_be_gone: bool = False) -> Revision:
        """Commit commands together, and let this node come as far, so that its client sees it.

        The first refusal of any is raised; if what it is about ``may_be_gone``, unless it is.
        """
        if not commands:
            return self.registry.revision
        for command in commands:
            if isinstance(command, CheckCommand):
                check_check_command(command, self.scripts_on)
        done = await self.registry.write(commands)
        for outcome in done.outcomes:
            with contextlib.suppress(*(_GONE if may_be_gone else ())):
                raised(outcome)
        await self.written(done.revision)
        return done.revision

    async def written(self, revision: Revision) -> None:
        """Let this node come as far as what was just written, so that its client sees it."""
        if revision > self.registry.revision:
            with contextlib.suppress(TooStale):
                await self.registry.make_fresh(Resolve("", PLAIN_QUERY, min_revision=revision))

    def shapes(self) -> Shapes:
        """The forms of this moment."""
        return Shapes(self.registry.catalog, self.door.servers())

    def filter(self, fields: Mapping[str, Any]) -> Test | None:
        """The filter that is given, over data with these fields."""
        expression = self.asked.one("filter")
        return parse(expression, fields) if expression.strip() else None

    def reply(self, value: Any, index: Revision) -> Reply:
        """A value, with the headers that a read has."""
        reply = json_reply(value, is_pretty=self.asked.is_pretty)
        reply.headers = self.headers(index)
        return reply

    def reply_kept(
        self, name: str, table: Table, index: Revision, make: Callable[[], Any]
    ) -> Reply:
        """What ``make`` makes of a table: the same bytes for all who ask for all of it."""
        if self.asked.is_narrowed or "filter" in self.asked:
            return self.reply(make(), index)
        return Reply(self.door.kept(name, table, make), 200, JSON, self.headers(index))

    def headers(self, index: Revision) -> list[Header]:
        """What a read says of itself."""
        return read_headers(self.registry, index, self.asked)

    def plain(self, value: Any) -> Reply:
        """A value without an index: of the agent, of the node, or of a write."""
        return json_reply(value, is_pretty=self.asked.is_pretty)


def check_datacenter(asked: Asked) -> None:
    """There is one: this one."""
    check_named_datacenter(asked.datacenter)


def check_named_datacenter(name: str) -> None:
    """There is one: this one."""
    if name not in ("", DATACENTER):
        raise Refusal(500, "No path to datacenter")


def read_headers(registry: Registry, index: Revision, asked: Asked | None = None) -> list[Header]:
    """What a read says of itself: its index, and how fresh and how certain it is."""
    is_leader = registry.source == "leader"
    effective = b"leader" if is_leader else b"stale"
    headers: list[Header] = []
    if asked is not None:
        consistency = asked.consistency
        if consistency != "default":
            effective = consistency.encode()
        if asked.is_cached:
            headers = [(b"x-cache", b"HIT"), (b"age", b"0")]
    is_known = is_leader or bool(registry.leader)
    age_ms = 0 if is_leader or effective == b"consistent" else registry.age_ms
    return [
        (b"x-consul-index", b"%d" % index),
        (b"x-consul-knownleader", b"true" if is_known else b"false"),
        (b"x-consul-lastcontact", b"%d" % age_ms),
        (b"x-consul-effective-consistency", effective),
        (b"x-consul-default-acl-policy", b"allow"),
        (b"x-consul-query-backend", b"blocking-query"),
        *headers,
    ]


Perform = Callable[[Call], Awaitable[Reply]]


class Operation(msgspec.Struct, frozen=True):
    """One method at one path."""

    method: str
    path: str
    """Without ``/v1/``."""
    perform: Perform


def is_loopback(address: str) -> bool:
    """Whether a caller is on this machine; who has no address, is."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return not address
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback
