"""What goes over HTTP as JSON: the bodies that are taken, and the answers.

Bodies refuse fields that they do not know: a typo must not be silent.  What a field may hold is
checked by ``waypost.model``, whose words are better than a schema's; the limits that stand here in
``extra_json_schema`` are told to readers of ``/openapi.json`` and decide nothing.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from waypost.catalog.registering import INCARNATION_MAX
from waypost.checks import CHECKS_PER_OWNER_MAX, Check, check_checks
from waypost.errors import Invalid
from waypost.model import (
    HOST_CHARS_MAX,
    META_PAIRS_MAX,
    META_VALUE_CHARS_MAX,
    NAME_CHARS_MAX,
    NAMED_PORTS_MAX,
    TAG_CHARS_MAX,
    TAGS_MAX,
    TEXT_CHARS_MAX,
    TTL_MS_DEFAULT,
    TTL_MS_MAX,
    TTL_MS_MIN,
    WEIGHT_MAX,
    WHY_CHARS_MAX,
    ChangeKind,
    Health,
    Instance,
    Revision,
    ServiceName,
    Source,
    check_id,
    check_instance,
    check_service,
    check_ttl,
    check_why,
)
from waypost.servers.http.check_bodies import OwnCheck
from waypost.servers.http.problems import Problem
from waypost.views import InstanceView

BATCH_ITEMS_MAX: Final = 1000
DRAIN_S_DEFAULT: Final = 10.0
DRAIN_S_MAX: Final = 300.0

_PRINTABLE: Final = r"[^\x00-\x1f\x7f-\xa0]"
_LABEL: Final = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
SERVICE_SCHEMA: Final[Mapping[str, Any]] = {"type": "string", "pattern": f"^({_LABEL}/)?{_LABEL}$"}
ID_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "string",
    "pattern": "^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$",
}


def _told(description: str, **schema: Any) -> Meta:
    return Meta(description=description, extra_json_schema=schema or None)


Host = Annotated[
    str,
    _told(
        "What consumers connect to: a host name or an IP address.",
        pattern=f"^[A-Za-z0-9:._%-]{{1,{HOST_CHARS_MAX}}}$",
    ),
]
Port = Annotated[int, _told("What the service listens on.", minimum=1, maximum=65_535)]
Weight = Annotated[
    Annotated[float, Meta(extra_json_schema={"minimum": 0, "maximum": WEIGHT_MAX})] | None,
    _told("Share of the traffic relative to its siblings; 0 drains it, null is unknown."),
]
Text = Annotated[str, Meta(extra_json_schema={"pattern": f"^{_PRINTABLE}{{0,{TEXT_CHARS_MAX}}}$"})]
Key = Annotated[str, Meta(extra_json_schema={"pattern": f"^{_PRINTABLE}{{1,{TEXT_CHARS_MAX}}}$"})]
Tag = Annotated[str, Meta(extra_json_schema={"pattern": f"^{_PRINTABLE}{{1,{TAG_CHARS_MAX}}}$"})]
Tags = Annotated[tuple[Tag, ...], _told("What queries filter by.", maxItems=TAGS_MAX)]
Pairs = Annotated[
    dict[Key, Annotated[str, Meta(extra_json_schema={"maxLength": META_VALUE_CHARS_MAX})]],
    _told("Whatever else consumers should know.", maxProperties=META_PAIRS_MAX),
]
Ports = Annotated[
    dict[
        Annotated[str, Meta(extra_json_schema={"pattern": f"^.{{1,{NAME_CHARS_MAX}}}$"})],
        Annotated[int, Meta(extra_json_schema={"minimum": 1, "maximum": 65_535})],
    ],
    _told("Further ports by name.", maxProperties=NAMED_PORTS_MAX),
]
Ttl = Annotated[
    float,
    _told(
        f"Seconds that it outlives its last renewal, {TTL_MS_MIN / 1000:g} or more; 0 for ever.",
        anyOf=[
            {"const": 0},
            {"type": "number", "minimum": TTL_MS_MIN / 1000, "maximum": TTL_MS_MAX / 1000},
        ],
    ),
]
Incarnation = Annotated[
    int,
    _told(
        "Which life of this id is meant; 0 for whichever it is.",
        minimum=0,
        maximum=INCARNATION_MAX,
    ),
]
Why = Annotated[str, _told("The reason, for people.", maxLength=WHY_CHARS_MAX)]
Seconds = Annotated[
    float, _told("How long to wait at most, in seconds.", minimum=0, maximum=DRAIN_S_MAX)
]
Service = Annotated[str, Meta(extra_json_schema=dict(SERVICE_SCHEMA))]
Id = Annotated[str, Meta(extra_json_schema=dict(ID_SCHEMA))]


# What is taken


class Registration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a provider says of an instance."""

    host: Host
    port: Port
    weight: Weight = None
    zone: Text = ""
    version: Text = ""
    tags: Tags = ()
    meta: Pairs = {}
    ports: Ports = {}
    ttl: Ttl = TTL_MS_DEFAULT / 1000
    health: Health = "passing"
    why: Why = ""
    incarnation: Incarnation = 0
    node: Annotated[Text, _told("The machine or agent that it runs on.")] = ""
    checks: Annotated[
        tuple[OwnCheck, ...] | None,
        _told(
            "All checks of its own; null, or none said, leaves those that it has.",
            maxItems=CHECKS_PER_OWNER_MAX,
        ),
    ] = None

    def own_checks(self) -> tuple[Check, ...] | None:
        """Build the checks that it describes, or raise ``Invalid``."""
        if self.checks is None:
            return None
        own = tuple(check.own() for check in self.checks)
        check_checks(own)
        return own

    @property
    def ttl_ms(self) -> int:
        """The lease, in milliseconds; 0 for none."""
        return round(self.ttl * 1000)

    def instance(self, service: str, instance_id: str) -> Instance:
        """Build the instance that it describes, or raise ``Invalid``."""
        instance = Instance(
            service,
            instance_id,
            self.host,
            self.port,
            self.weight,
            self.zone,
            self.version,
            self.tags,
            self.meta,
            self.ports,
            self.incarnation,
            self.node,
        )
        check_instance(instance)
        check_incarnation(self.incarnation)
        check_ttl(self.ttl * 1000)
        check_why(self.why)
        return instance


class HealthReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an instance is."""

    health: Health
    why: Why = ""
    incarnation: Incarnation = 0

    def check(self) -> None:
        """Raise ``Invalid`` unless it is within limits."""
        check_why(self.why)
        check_incarnation(self.incarnation)


class DrainOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a drain may take."""

    deadline: Seconds = DRAIN_S_DEFAULT

    @property
    def deadline_ms(self) -> int:
        """The same in milliseconds; raises ``Invalid`` beyond the limits."""
        if not 0 <= self.deadline <= DRAIN_S_MAX:
            raise Invalid(
                f"deadline: {self.deadline:g} s is outside 0 to {DRAIN_S_MAX:g} s: drain again if "
                "watchers remain that have not seen it",
                field="deadline",
            )
        return round(self.deadline * 1000)


class RegisterItem(
    Registration,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="op",
    tag="register",
):
    """One registration of a batch."""

    service: Service
    id: Id

    def check(self) -> None:
        """Raise ``Invalid`` unless it is within limits."""
        self.instance(self.service, self.id)
        self.own_checks()


class _ItemOf(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    service: Service
    id: Id

    def check(self) -> None:
        """Raise ``Invalid`` unless it is within limits."""
        check_service(self.service)
        check_id(self.id)


class RenewItem(
    _ItemOf, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op", tag="renew"
):
    """One renewal of a batch."""


class DeregisterItem(
    _ItemOf, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op", tag="deregister"
):
    """One removal of a batch."""

    incarnation: Incarnation = 0

    def check(self) -> None:
        """Raise ``Invalid`` unless it is within limits."""
        super().check()
        check_incarnation(self.incarnation)


class SetHealthItem(
    _ItemOf, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op", tag="set_health"
):
    """One change of health of a batch."""

    health: Health
    why: Why = ""
    incarnation: Incarnation = 0

    def check(self) -> None:
        """Raise ``Invalid`` unless it is within limits."""
        super().check()
        check_why(self.why)
        check_incarnation(self.incarnation)


BatchItem = RegisterItem | RenewItem | DeregisterItem | SetHealthItem


class Batch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Many changes at once; a refused one does not undo the others."""

    items: Annotated[list[BatchItem], Meta(extra_json_schema={"maxItems": BATCH_ITEMS_MAX})]

    def check(self) -> None:
        """Raise ``Invalid``, naming the item, unless all are within limits."""
        if len(self.items) > BATCH_ITEMS_MAX:
            raise Invalid(
                f"items: {len(self.items)} given, at most {BATCH_ITEMS_MAX}: send several batches",
                field="items",
            )
        for position, item in enumerate(self.items):
            try:
                item.check()
            except Invalid as error:
                at = f"items[{position}]."
                raise Invalid(at + error.message, field=at + error.field) from None


# What is answered


class Registered(msgspec.Struct, frozen=True, gc=False):
    """The answer to a registration."""

    revision: Revision
    incarnation: int
    ttl: float
    warnings: tuple[str, ...]


class Done(msgspec.Struct, frozen=True, gc=False):
    """The answer to a change: from which revision on it is seen."""

    revision: Revision


class DrainReport(msgspec.Struct, frozen=True, gc=False):
    """How a drain went: with ``unseen`` at 0 nobody picks the instance any more."""

    revision: Revision
    watchers: int
    unseen: int


class BatchResult(msgspec.Struct, frozen=True, gc=False):
    """What became of one item of a batch: done at a revision, or a problem."""

    status: int
    revision: Revision | UnsetType = UNSET
    incarnation: int | UnsetType = UNSET
    error: Problem | UnsetType = UNSET


class BatchReport(msgspec.Struct, frozen=True, gc=False):
    """What became of a batch, item by item."""

    revision: Revision
    results: list[BatchResult]


class ServiceView(msgspec.Struct, frozen=True, gc=False):
    """One service, in numbers."""

    service: ServiceName
    instances: int
    pickable: int
    revision: Revision


class ServicesAnswer(msgspec.Struct, frozen=True, gc=False):
    """Every service, and how fresh that is."""

    revision: Revision
    age_ms: int
    source: Source
    services: list[ServiceView]


class ServiceAnswer(msgspec.Struct, frozen=True, gc=False):
    """The instances of a service, and how fresh that is."""

    service: ServiceName
    revision: Revision
    age_ms: int
    source: Source
    instances: list[InstanceView]


class ChangeEvent(msgspec.Struct, frozen=True, gc=False):
    """The data of a ``change`` event."""

    revision: Revision
    kind: ChangeKind
    at_ms: int
    instance: InstanceView


class Alive(msgspec.Struct, frozen=True, gc=False):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(msgspec.Struct, frozen=True, gc=False):
    """The node takes writes."""

    status: Literal["ready"] = "ready"


def check_incarnation(incarnation: int) -> None:
    """Raise ``Invalid`` unless it may be an incarnation."""
    if not 0 <= incarnation <= INCARNATION_MAX:
        raise Invalid(
            f"incarnation: {incarnation} is outside 0 to {INCARNATION_MAX}: give the one that the "
            "registration yielded, or leave it out",
            field="incarnation",
        )
