"""Checks between Consul's form and Waypost's.

Consul says what a check is by which of its fields is given: ``TTL``, ``HTTP``, ``TCP``, ``GRPC``,
``Args``, ``AliasService``.  A check with none of them is one that only reports change.  What cannot
be watched for (UDP, H2PING, Docker, aliases of nodes) is refused, and never taken for passing.
"""

from typing import Any, Final

import msgspec

from waypost.checks import Check, CheckKind, CheckStatus, NodeName, check_check
from waypost.errors import Invalid
from waypost.servers.consul.durations import read_ns, shown
from waypost.servers.consul.refusals import Refusal

Span = str | int | float
REAP_MS_MIN: Final = 60_000
_INTERVAL_MS_MIN: Final = 1_000
_AT_INTERVALS: Final = ("script", "http", "tcp", "grpc")
_STATUSES: Final[dict[str, CheckStatus]] = {
    "passing": "passing",
    "warning": "warning",
    "critical": "critical",
}


class CheckForm(msgspec.Struct):
    """A check as a client registers it; the names are folded (see ``bodies``)."""

    id: str = ""
    checkid: str = ""
    name: str = ""
    notes: str = ""
    status: str = ""
    serviceid: str = ""
    ttl: Span = ""
    http: str = ""
    tcp: str = ""
    grpc: str = ""
    grpcusetls: bool = False
    tcpusetls: bool = False
    udp: str = ""
    h2ping: str = ""
    osservice: str = ""
    args: list[str] = []
    scriptargs: list[str] = []
    script: str = ""
    dockercontainerid: str = ""
    aliasservice: str = ""
    aliasnode: str = ""
    interval: Span = ""
    timeout: Span = ""
    method: str = ""
    header: dict[str, list[str]] = {}
    body: str = ""
    tlsskipverify: bool = False
    successbeforepassing: int = 0
    failuresbeforecritical: int = 0
    failuresbeforewarning: int = 0
    deregistercriticalserviceafter: Span = ""
    output: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing, as some clients send for "no check"."""
        return self == CheckForm()


def read_status(text: str, otherwise: CheckStatus) -> CheckStatus:
    """A status as a client gives it; none is ``otherwise``."""
    if not text:
        return otherwise
    if text not in _STATUSES:
        raise Refusal(400, "Bad check status")
    return _STATUSES[text]


def read_check(
    form: CheckForm, check_id: str, name: str, alias: str = "", scripts_on: NodeName = ""
) -> Check:
    """A check to keep; ``alias`` names the instance that an alias check is as.

    A script is refused unless ``scripts_on`` names the node that runs it for the caller.
    """
    kind, target = _kind_and_target(form, alias)
    try:
        reap_ms = _ms(form.deregistercriticalserviceafter)
        interval_ms = _ms(form.interval)
        if kind in _AT_INTERVALS and interval_ms <= 0:
            raise Refusal(
                400, "Invalid check: Interval must be > 0 for Script, HTTP, TCP and GRPC checks"
            )
        check = Check(
            id=check_id,
            name=name,
            kind=kind,
            target=target,
            interval_ms=max(interval_ms, _INTERVAL_MS_MIN) if interval_ms else 10_000,
            timeout_ms=_ms(form.timeout),
            ttl_ms=_ms(form.ttl),
            method=form.method or "GET",
            headers={key: ", ".join(values) for key, values in form.header.items()},
            body=form.body,
            tls_skip_verify=form.tlsskipverify,
            up_after=form.successbeforepassing + 1,
            down_after=form.failuresbeforecritical + 1,
            deregister_after_ms=max(reap_ms, REAP_MS_MIN) if reap_ms else 0,
            notes=form.notes,
            tls=form.grpcusetls or form.tcpusetls,
            args=tuple(form.args or form.scriptargs) if kind == "script" else (),
            runs_on=scripts_on if kind == "script" else "",
        )
    except ValueError as error:
        raise Refusal(400, f"Invalid check: {error}") from None
    try:
        check_check(check, scripts_on)
    except Invalid as error:
        raise Refusal(400, f"Invalid check: {error.message}") from None
    return check


def _kind_and_target(form: CheckForm, alias: str) -> tuple[CheckKind, str]:
    for name, given in (
        ("UDP", form.udp),
        ("H2PING", form.h2ping),
        ("OSService", form.osservice),
        ("DockerContainerID", form.dockercontainerid),
        ("Script (use Args)", form.script),
    ):
        if given:
            raise Refusal(
                400, f"Invalid check: {name} is not supported: use TTL, HTTP, TCP or GRPC"
            )
    if form.ttl and form.interval:
        raise Refusal(400, "Invalid check: Interval and TTL cannot both be specified")
    if form.aliasnode and not form.aliasservice:
        raise Refusal(400, "Invalid check: AliasNode is not supported: alias a service")
    if form.ttl and form.ttl not in ("0s", "0"):
        return "ttl", ""
    if form.args or form.scriptargs:
        return "script", ""
    if form.http:
        return "http", form.http
    if form.tcp:
        return "tcp", form.tcp
    if form.grpc:
        return "grpc", form.grpc
    if form.aliasservice:
        return "alias", alias
    raise Refusal(400, "Invalid check: TTL must be > 0 for TTL checks")


def _ms(span: Span) -> int:
    return read_ns(span) // 1_000_000


def interval_of(check: Check) -> str:
    """How often it is looked at, as Consul shows it."""
    return _shown(check.interval_ms) if check.kind in _AT_INTERVALS else ""


def timeout_of(check: Check) -> str:
    """How long that may take, as Consul shows it."""
    return _shown(check.timeout_ms) if check.timeout_ms else ""


def definition_of(check: Check) -> dict[str, Any]:
    """What a check is, in Consul's fields."""
    definition: dict[str, Any] = {}
    match check.kind:
        case "http":
            definition["HTTP"] = check.target
            if check.method != "GET":
                definition["Method"] = check.method
            if check.headers:
                definition["Header"] = {key: [value] for key, value in check.headers.items()}
            if check.body:
                definition["Body"] = check.body
        case "tcp":
            definition["TCP"] = check.target
        case "grpc":
            definition["GRPC"] = check.target
            if check.tls:
                definition["GRPCUseTLS"] = True
        case "alias":
            definition["AliasService"] = check.target.rpartition("/")[2]
        case "ttl":
            definition["TTL"] = _shown(check.ttl_ms)
        case "manual" | "script":
            pass  # Consul's definition has no field for what a script runs
    if check.tls_skip_verify:
        definition["TLSSkipVerify"] = True
    if check.kind in _AT_INTERVALS:
        definition["Interval"] = _shown(check.interval_ms)
        if check.timeout_ms:
            definition["Timeout"] = _shown(check.timeout_ms)
    if check.deregister_after_ms:
        definition["DeregisterCriticalServiceAfter"] = _shown(check.deregister_after_ms)
    return definition


def _shown(ms: int) -> str:
    return shown(ms * 1_000_000)
