"""Health checks as JSON: what is taken, and what is told."""

import math
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from waypost.checks import (
    BODY_CHARS_MAX,
    CHECK_TEXT_CHARS_MAX,
    CHECK_TTL_MS_MIN,
    DEREGISTER_AFTER_MS_MAX,
    HEADER_CHARS_MAX,
    HEADERS_MAX,
    IN_A_ROW_MAX,
    INTERVAL_MS_DEFAULT,
    INTERVAL_MS_MAX,
    INTERVAL_MS_MIN,
    TARGET_CHARS_MAX,
    Check,
    CheckKind,
    CheckState,
    CheckStatus,
    OpenKind,
)
from waypost.model import Revision, check_id


def _told(description: str, **schema: Any) -> Meta:
    return Meta(description=description, extra_json_schema=schema or None)


def _seconds(description: str, least_ms: int, most_ms: int, *, or_none: bool = False) -> Meta:
    span = {"type": "number", "minimum": least_ms / 1000, "maximum": most_ms / 1000}
    return _told(description, **({"anyOf": [{"const": 0}, span]} if or_none else span))


CHECK_ID_PATTERN: Final = "^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$"
_HEADER_NAME: Final = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$"
_HEADER_VALUE: Final = rf"^[ -~]{{0,{HEADER_CHARS_MAX}}}$"
_InARow = Meta(extra_json_schema={"minimum": 1, "maximum": IN_A_ROW_MAX})
Text = Annotated[str, Meta(extra_json_schema={"maxLength": CHECK_TEXT_CHARS_MAX})]


class _Looked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is looked at, and how."""

    kind: OpenKind
    target: Annotated[
        str,
        _told(
            "A URL; host:port; host:port/service for gRPC; service/instance for an alias; nothing "
            "for ttl and manual.",
            maxLength=TARGET_CHARS_MAX,
        ),
    ] = ""
    interval: Annotated[
        float, _seconds("Seconds between probes.", INTERVAL_MS_MIN, INTERVAL_MS_MAX)
    ] = INTERVAL_MS_DEFAULT / 1000
    timeout: Annotated[
        float,
        _seconds("Seconds that a probe may take; 0 for 10.", 1, INTERVAL_MS_MAX, or_none=True),
    ] = 0.0
    ttl: Annotated[
        float,
        _seconds("Seconds that a report counts.", CHECK_TTL_MS_MIN, INTERVAL_MS_MAX, or_none=True),
    ] = 0.0
    method: Annotated[str, Meta(extra_json_schema={"pattern": "^[A-Z]{1,16}$"})] = "GET"
    headers: Annotated[
        dict[
            Annotated[str, Meta(extra_json_schema={"pattern": _HEADER_NAME})],
            Annotated[str, Meta(extra_json_schema={"pattern": _HEADER_VALUE})],
        ],
        Meta(extra_json_schema={"maxProperties": HEADERS_MAX}),
    ] = {}
    body: Annotated[str, Meta(extra_json_schema={"maxLength": BODY_CHARS_MAX})] = ""
    tls: bool = False
    tls_skip_verify: bool = False
    up_after: Annotated[int, _InARow] = 2
    down_after: Annotated[int, _InARow] = 2
    deregister_after: Annotated[
        float,
        _seconds(
            "Seconds of being critical after which the instance is deregistered; 0 for never.",
            1_000,
            DEREGISTER_AFTER_MS_MAX,
            or_none=True,
        ),
    ] = 0.0
    name: Text = ""
    notes: Text = ""

    def check(self, check_id: str) -> Check:
        """Build the check that it describes."""
        return Check(
            check_id,
            self.name,
            self.kind,
            self.target,
            _ms(self.interval),
            _ms(self.timeout),
            _ms(self.ttl),
            self.method,
            self.headers,
            self.body,
            self.tls_skip_verify,
            self.up_after,
            self.down_after,
            _ms(self.deregister_after),
            self.notes,
            self.tls,
        )


class CheckBody(_Looked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is looked at, and how."""

    status: Annotated[
        Literal["", "passing", "warning", "critical"],
        _told("What it is taken to be until something is found; empty keeps what is known."),
    ] = ""


class OwnCheck(_Looked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A check that an instance brings with its registration."""

    id: Annotated[
        str, _told("Its name among the checks of the instance.", pattern=CHECK_ID_PATTERN)
    ]

    def own(self) -> Check:
        """Build the check that it describes, or raise ``Invalid``."""
        check_id(self.id)
        return self.check(self.id)


class CheckReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was found."""

    status: CheckStatus
    output: Annotated[str, _told("In words, for people; cut at 4 KiB.")] = ""


class CheckView(msgspec.Struct, frozen=True, kw_only=True):
    """A check, and what was found last."""

    id: str
    kind: CheckKind
    target: str
    args: tuple[str, ...]
    """Of a script."""
    runs_on: str
    """The node that runs a script."""
    interval: float
    timeout: float
    ttl: float
    method: str
    headers: dict[str, str]
    body: str
    tls: bool
    tls_skip_verify: bool
    up_after: int
    down_after: int
    deregister_after: float
    name: str
    notes: str
    status: CheckStatus
    output: str
    since_ms: int
    revision: Revision


class ChecksAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The checks of an instance, by id."""

    revision: Revision
    checks: list[CheckView]


def check_view(state: CheckState) -> CheckView:
    """Make its JSON form."""
    check = state.check
    return CheckView(
        id=check.id,
        kind=check.kind,
        target=check.target,
        args=check.args,
        runs_on=check.runs_on,
        interval=check.interval_ms / 1000,
        timeout=check.probe_timeout_ms / 1000,
        ttl=check.ttl_ms / 1000,
        method=check.method,
        headers=check.headers,
        body=check.body,
        tls=check.tls,
        tls_skip_verify=check.tls_skip_verify,
        up_after=check.up_after,
        down_after=check.down_after,
        deregister_after=check.deregister_after_ms / 1000,
        name=check.name,
        notes=check.notes,
        status=state.status,
        output=state.output,
        since_ms=state.since_ms,
        revision=state.revision,
    )


def _ms(seconds: float) -> int:
    """Whole milliseconds, and never what is out of bounds within them."""
    exact = round(min(max(seconds, -1.0), 1e12) * 1000, 6)
    whole = math.floor(exact) if exact < 1e6 else math.ceil(exact)
    return whole or (-1 if seconds else 0)
