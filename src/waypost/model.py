"""What a registry knows: services, instances, their health, and how each change is told.

An ``Instance`` is what a provider declares of itself; a ``Record`` is that plus what the registry
knows about it (health, since when and why, who keeps it alive).  Both are immutable: a change
makes a new record, so a record may be shared by the catalog, the history, a snapshot being written
and every answer on its way out, without a copy and without a lock.

Identity is ``(service, id)``.  A service name is one DNS label, optionally qualified by a
namespace: ``orders`` or ``team-a/orders`` (RFC 1123 section 2.1, RFC 1035 section 2.3.4).

Knows no clock and no I/O.  All limits stand here, and ``check_instance`` is the door: what has
passed it is trusted everywhere inside.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Literal, TypeVar

import msgspec

from waypost.errors import Invalid

ServiceName = str
InstanceId = str
SessionId = str
Revision = int
"""The log index of a change: global, monotone, and the cursor of every watch."""

Health = Literal["starting", "passing", "warning", "critical", "draining"]
HEALTHS: tuple[Health, ...] = ("starting", "passing", "warning", "critical", "draining")
ChangeKind = Literal["up", "changed", "down"]
Source = Literal["leader", "follower", "cache", "disk"]

NAME_CHARS_MAX = 63
ID_CHARS_MAX = 128
HOST_CHARS_MAX = 253
TEXT_CHARS_MAX = 128
TAGS_MAX = 64
TAG_CHARS_MAX = 512
"""Proxies keep their rules in tags, and these are long."""
META_PAIRS_MAX = 64
META_VALUE_CHARS_MAX = 512
NAMED_PORTS_MAX = 16
WEIGHT_MAX = 65_535
WHY_CHARS_MAX = 512
TTL_MS_MIN = 500
TTL_MS_MAX = 24 * 3600 * 1000
TTL_MS_DEFAULT = 10_000
GRACE_MS_DEFAULT = 2_000
INSTANCES_PER_SERVICE_MAX = 100_000

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?:{_LABEL}/)?{_LABEL}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")
_HOST = re.compile(r"[A-Za-z0-9:._%-]{1,253}")

# What many instances have in common is checked once: to find it here costs a fourth of a check.
_Value = TypeVar("_Value", str, tuple[str, ...])
_passed_services: set[str] = set()
_passed_hosts: set[str] = set()
_passed_texts: set[str] = {""}
_passed_tags: set[tuple[str, ...]] = {()}
_passed_keys: set[str] = set()


class Instance(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One running copy of a service, as its provider declares it."""

    service: ServiceName
    id: InstanceId
    host: str
    port: int
    weight: float | None = None
    """Share of the traffic relative to its siblings; 0 drains, None is unknown and not zero."""
    zone: str = ""
    version: str = ""
    tags: tuple[str, ...] = ()
    meta: dict[str, str] = {}
    ports: dict[str, int] = {}
    """Further ports by name, such as ``{"metrics": 9100}``."""
    incarnation: int = 0
    """Which life of this id it is.  0 asks the registry for a new one, newer than every other."""
    node: str = ""
    """The machine or agent that it runs on, where that matters: its checks count for it too."""


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An instance and what the registry knows about it."""

    instance: Instance
    health: Health
    since_ms: int
    """Cluster time, in milliseconds, at which ``health`` became what it is."""
    why: str
    suspect: bool
    """Probably gone, not yet removed: resolved only when nothing better is left."""
    session: SessionId
    """Who keeps it alive; empty for a permanent instance, which only a deregister removes."""
    revision: Revision
    """Of its latest change."""


class Change(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One change of one instance: what a watch tells."""

    revision: Revision
    kind: ChangeKind
    record: Record
    """The record after the change; for ``down`` the last one, with ``why`` it went."""
    at_ms: int
    """Cluster time of the change, in milliseconds."""


HealthFilter = Literal["resolvable", "any"] | Health


class Query(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Which instances of a service are asked for; the empty query asks what a consumer should use.

    Every condition must hold.
    """

    health: HealthFilter = "resolvable"
    """``resolvable`` is the function of that name; ``any`` asks for all, drained ones too."""
    tags: tuple[str, ...] = ()
    """All of which an instance must have."""
    zone: str = ""
    version: str = ""
    meta: dict[str, str] = {}
    """Pairs, all of which an instance must have."""

    @property
    def is_plain(self) -> bool:
        """Whether it sets no condition of its own, as most queries do."""
        return self.health == "resolvable" and not (
            self.tags or self.zone or self.version or self.meta
        )


PLAIN_QUERY = Query()


def is_pickable(record: Record) -> bool:
    """Whether new work may be sent to it while better and worse ones are known."""
    return (
        record.health in ("passing", "warning")
        and not record.suspect
        and record.instance.weight != 0
    )


def resolvable(records: Iterable[Record]) -> list[Record]:
    """Those that a consumer should use: the pickable ones, or the suspects if none is left.

    A suspect is the last resort: with every other instance gone, a provider that may only have
    lost its connection is worth more than an empty answer.
    """
    records = list(records)
    return [r for r in records if is_pickable(r)] or [
        r
        for r in records
        if r.suspect and r.health in ("passing", "warning") and r.instance.weight != 0
    ]


def check_service(name: str) -> None:
    """Raise ``Invalid`` unless ``name`` is a service name, with its namespace or without."""
    if name in _passed_services:
        return
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"service: {_shown(name)} is not a service name: use 1 to {NAME_CHARS_MAX} lower-case "
            "letters, digits and inner hyphens, optionally after a namespace of the same form and "
            "a slash, such as 'orders' or 'team-a/orders'",
            field="service",
        )
    _remember(_passed_services, name)


def check_id(instance_id: str) -> None:
    """Raise ``Invalid`` unless it may serve as an instance id."""
    if not _ID.fullmatch(instance_id):
        raise Invalid(
            f"id: {_shown(instance_id)} is not an instance id: use 1 to {ID_CHARS_MAX} of letters, "
            "digits, '.', '_', ':', '@' and '-', starting with a letter or a digit",
            field="id",
        )


def check_host(host: str) -> None:
    """Raise ``Invalid`` unless it may be a host name or an IP address."""
    if host in _passed_hosts:
        return
    if not _HOST.fullmatch(host):
        raise Invalid(
            f"host: {_shown(host)} is neither a host name nor an IP address: give what consumers "
            f"should connect to, at most {HOST_CHARS_MAX} characters, without a port",
            field="host",
        )
    _remember(_passed_hosts, host)


def check_instance(instance: Instance) -> None:
    """Raise ``Invalid``, naming field, limit and remedy, unless every field is within limits."""
    if instance.service not in _passed_services:
        check_service(instance.service)
    if _ID.fullmatch(instance.id) is None:
        check_id(instance.id)
    if instance.host not in _passed_hosts:
        check_host(instance.host)
    if not 1 <= instance.port <= 65_535:
        raise Invalid(
            f"port: {instance.port} is outside 1 to 65535: give the port that the service "
            "listens on",
            field="port",
        )
    weight = instance.weight
    if weight is not None and not (0 <= weight <= WEIGHT_MAX):
        raise Invalid(
            f"weight: {weight} is outside 0 to {WEIGHT_MAX}: give 0 to drain, or leave it out "
            "when it is unknown",
            field="weight",
        )
    if instance.zone not in _passed_texts:
        _check_text("zone", instance.zone)
    if instance.version not in _passed_texts:
        _check_text("version", instance.version)
    if instance.tags not in _passed_tags:
        _check_tags(instance.tags)
    if instance.meta:
        _check_meta(instance.meta)
    if instance.ports:
        _check_ports(instance.ports)
    if instance.node not in _passed_texts:
        _check_text("node", instance.node)
    if instance.incarnation < 0:
        raise Invalid(
            f"incarnation: {instance.incarnation} is negative: leave it out to get a new one",
            field="incarnation",
        )


def check_ttl(ttl_ms: float) -> None:
    """Raise ``Invalid`` unless a lease may last that long (0 stands for no lease at all)."""
    if ttl_ms != 0 and not TTL_MS_MIN <= ttl_ms <= TTL_MS_MAX:
        raise Invalid(
            f"ttl: {ttl_ms / 1000:g} s is outside {TTL_MS_MIN / 1000:g} s to "
            f"{TTL_MS_MAX // 3_600_000} h: the default of {TTL_MS_DEFAULT // 1000} s suits most; "
            "0 registers without a lease",
            field="ttl",
        )


def check_why(why: str) -> None:
    """Raise ``Invalid`` if the reason given with a health is too long."""
    if len(why) > WHY_CHARS_MAX:
        raise Invalid(
            f"why: {len(why)} characters, at most {WHY_CHARS_MAX}: give its first lines",
            field="why",
        )


def _check_text(field: str, text: str) -> None:
    if len(text) > TEXT_CHARS_MAX or not text.isprintable():
        raise Invalid(
            f"{field}: {_shown(text)} must be at most {TEXT_CHARS_MAX} printable characters",
            field=field,
        )
    _remember(_passed_texts, text)


def _check_tags(tags: tuple[str, ...]) -> None:
    if len(tags) > TAGS_MAX:
        raise Invalid(
            f"tags: {len(tags)} given, at most {TAGS_MAX}: put what is not filtered by into meta",
            field="tags",
        )
    for tag in tags:
        if not tag or len(tag) > TAG_CHARS_MAX or not tag.isprintable():
            raise Invalid(
                f"tags: {_shown(tag)} must be 1 to {TAG_CHARS_MAX} printable characters",
                field="tags",
            )
    _remember(_passed_tags, tags, 1_024)


def _check_meta(meta: Mapping[str, str]) -> None:
    if len(meta) > META_PAIRS_MAX:
        raise Invalid(
            f"meta: {len(meta)} pairs given, at most {META_PAIRS_MAX}: a registry is not a store; "
            "keep the rest elsewhere and register its address",
            field="meta",
        )
    for key, value in meta.items():
        if key not in _passed_keys:
            _check_key(key)
        if len(value) > META_VALUE_CHARS_MAX:
            raise Invalid(
                f"meta: the value of {_shown(key)} has {len(value)} characters, at most "
                f"{META_VALUE_CHARS_MAX}",
                field="meta",
            )


def _check_key(key: str) -> None:
    if not key or len(key) > TEXT_CHARS_MAX or not key.isprintable():
        raise Invalid(
            f"meta: key {_shown(key)} must be 1 to {TEXT_CHARS_MAX} printable characters",
            field="meta",
        )
    _remember(_passed_keys, key)


def _check_ports(ports: Mapping[str, int]) -> None:
    if len(ports) > NAMED_PORTS_MAX:
        raise Invalid(
            f"ports: {len(ports)} named ports given, at most {NAMED_PORTS_MAX}", field="ports"
        )
    for name, port in ports.items():
        if not name or len(name) > NAME_CHARS_MAX or not 1 <= port <= 65_535:
            raise Invalid(
                f"ports: {_shown(name)}: {port} must be a name of 1 to {NAME_CHARS_MAX} characters "
                "and a port of 1 to 65535",
                field="ports",
            )


def _remember(passed: set[_Value], value: _Value, most: int = 4_096) -> None:
    if len(passed) >= most:
        passed.clear()
    passed.add(value)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
