"""What the registry knows of an instance beyond its provider's word: checks, and nodes.

A ``Check`` says what is looked at, how often, and what counts as a change of mind; a ``CheckState``
is that plus what was found last.  A check belongs to one instance, or to a node: a machine or an
agent on which instances run (``Instance.node``), and it counts for all of them.

How an instance is, is the worst of what its provider declares and of what its checks found;
whoever was drained is draining (``worst``).

Knows no clock and no I/O.  All limits stand here: what has passed ``check_check`` or ``check_node``
is trusted everywhere inside.  A script is run by one node, which was told to (``serve
--check-scripts``), for programs on its own machine; no other door and no other node takes one.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec

from waypost.errors import Invalid
from waypost.model import (
    META_PAIRS_MAX,
    META_VALUE_CHARS_MAX,
    Health,
    InstanceId,
    Revision,
    ServiceName,
    check_id,
    check_service,
)

OpenKind = Literal["ttl", "http", "tcp", "grpc", "manual", "alias"]
"""What whoever reaches a port may ask for."""
CheckKind = Literal[OpenKind, "script"]
CheckStatus = Literal["passing", "warning", "critical"]
NodeName = str
CheckKey = tuple[ServiceName, InstanceId, NodeName, str]
"""Service and instance, or node, and the check's id."""

CHECKS_PER_OWNER_MAX: Final = 64
CHECK_ID_CHARS_MAX: Final = 256
CHECK_TEXT_CHARS_MAX: Final = 512
TARGET_CHARS_MAX: Final = 2_048
ARGS_MAX: Final = 64
OUTPUT_BYTES_MAX: Final = 4_096
BODY_CHARS_MAX: Final = 4_096
HEADERS_MAX: Final = 32
HEADER_CHARS_MAX: Final = 1_024
INTERVAL_MS_MIN: Final = 1_000
INTERVAL_MS_DEFAULT: Final = 10_000
INTERVAL_MS_MAX: Final = 24 * 3_600_000
TIMEOUT_MS_DEFAULT: Final = 10_000
CHECK_TTL_MS_MIN: Final = 50
IN_A_ROW_MAX: Final = 100
DEREGISTER_AFTER_MS_MAX: Final = 30 * 24 * 3_600_000
NODE_CHARS_MAX: Final = 253
PROBE_HEADER: Final = "waypost-probe"
"""By it a registry knows that a probe asks over HTTP, and not a program on its machine."""

_PRINTED: Final[re.Pattern[str]] = re.compile(r"[^\x00-\x1f\x7f]+")
_METHOD: Final = re.compile(r"[A-Z]{1,16}")
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_FRAMING: Final = frozenset(("connection", "content-length", "transfer-encoding", "upgrade"))
"""Headers that say where a request ends: with them a body could hold a second request."""
_URL: Final = re.compile(
    r"https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?(?:[/?].*)?"
)
_HOST_PORT: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})")


class Check(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is looked at, and how."""

    id: str
    """Of its own among the checks of its instance, or of its node."""
    name: str = ""
    kind: CheckKind = "ttl"
    """``ttl``: somebody reports, or it turns critical; ``manual``: only reports change it;
    ``alias``: is as the instance is that ``target`` names; ``script``: ``args`` is run; the others
    are probed."""
    target: str = ""
    """A URL; ``host:port``; ``host:port/service`` for gRPC; ``service/instance`` for an alias."""
    interval_ms: int = INTERVAL_MS_DEFAULT
    timeout_ms: int = 0
    """0 stands for 10 s, or for the interval if that is shorter."""
    ttl_ms: int = 0
    method: str = "GET"
    headers: dict[str, str] = {}
    body: str = ""
    tls_skip_verify: bool = False
    up_after: int = 2
    """So many good probes in a row before it passes again."""
    down_after: int = 2
    """So many bad probes in a row before it is critical."""
    deregister_after_ms: int = 0
    """An instance whose check is critical for so long is deregistered; 0 for never."""
    notes: str = ""
    tls: bool = False
    """Whether a ``tcp`` or ``grpc`` target speaks TLS; of ``http`` the URL says so."""
    args: tuple[str, ...] = ()
    """Of a script: the program, and its arguments."""
    runs_on: NodeName = ""
    """Of a script: the registry's node that runs it, and no other one does."""

    @property
    def probe_timeout_ms(self) -> int:
        """How long one probe may take: never longer than until the next."""
        return min(self.timeout_ms or TIMEOUT_MS_DEFAULT, self.interval_ms)


class CheckState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A check, whose it is, and what was found last."""

    service: ServiceName
    """Empty for the check of a node."""
    id: InstanceId
    node: NodeName
    """Empty for the check of an instance."""
    check: Check
    status: CheckStatus
    output: str
    """What was found, in words of the target; at most 4 KiB."""
    since_ms: int
    """Cluster time at which ``status`` became what it is."""
    revision: Revision
    """Of the latest change of anything of it."""


class NodeEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A machine or an agent that somebody registered explicitly."""

    name: NodeName
    address: str = ""
    id: str = ""
    tagged_addresses: dict[str, str] = {}
    meta: dict[str, str] = {}
    revision: Revision = 0
    """Of its latest change: the registry's to say, and 0 in what it is given."""


SEVERITIES: Final[dict[Health, int]] = {
    "passing": 0,
    "warning": 1,
    "starting": 2,
    "critical": 3,
    "draining": 4,
}


def worst(declared: Health, why: str, checks: Iterable[CheckState]) -> tuple[Health, str]:
    """How an instance is, and why: as it says, unless a check found worse; the first such one."""
    health = declared
    for state in checks:
        if SEVERITIES[state.status] > SEVERITIES[health]:
            health = state.status
            of_node = f" of node {state.node!r}" if state.node else ""
            why = f"check {state.check.id!r}{of_node} is {state.status}"
    return health, why


def cut_output(output: str) -> str:
    """Bound what was found to 4 KiB of UTF-8."""
    if len(output) * 4 <= OUTPUT_BYTES_MAX:
        return output
    return output.encode("utf-8", "replace")[:OUTPUT_BYTES_MAX].decode("utf-8", "ignore")


def check_check(check: Check, scripts_on: NodeName = "") -> None:
    """Raise ``Invalid``, naming field, limit and remedy, unless every field is within limits.

    A script is refused unless it is one for the node ``scripts_on``.
    """
    check_check_id(check.id)
    if check.kind == "script" or check.args or check.runs_on:
        _check_script(check, scripts_on)
    for field, text in (("name", check.name), ("notes", check.notes)):
        if len(text) > CHECK_TEXT_CHARS_MAX:
            raise _invalid(f"check.{field}", f"{len(text)} characters", CHECK_TEXT_CHARS_MAX)
    _check_target(check)
    if check.kind in ("http", "tcp", "grpc", "alias", "script"):
        _check_span("interval", check.interval_ms, INTERVAL_MS_MIN, INTERVAL_MS_MAX)
    if check.timeout_ms:
        _check_span("timeout", check.timeout_ms, 1, INTERVAL_MS_MAX)
    if check.kind == "ttl":
        _check_span("ttl", check.ttl_ms, CHECK_TTL_MS_MIN, INTERVAL_MS_MAX)
    if not _METHOD.fullmatch(check.method):
        raise Invalid(
            f"check.method: {check.method[:20]!r} is no HTTP method: use GET, HEAD or another in "
            "capital letters",
            field="check.method",
        )
    _check_headers(check.headers)
    if len(check.body) > BODY_CHARS_MAX:
        raise _invalid("check.body", f"{len(check.body)} characters", BODY_CHARS_MAX)
    for field, count in (("up_after", check.up_after), ("down_after", check.down_after)):
        if not 1 <= count <= IN_A_ROW_MAX:
            raise Invalid(
                f"check.{field}: {count} probes in a row is outside 1 to {IN_A_ROW_MAX}: 2 suits "
                "most, 1 believes every probe",
                field=f"check.{field}",
            )
    if check.deregister_after_ms:
        _check_span("deregister_after", check.deregister_after_ms, 1_000, DEREGISTER_AFTER_MS_MAX)


def check_checks(checks: Sequence[Check]) -> None:
    """Raise ``Invalid`` unless an instance may have these, all of them."""
    if len(checks) > CHECKS_PER_OWNER_MAX:
        raise _invalid("checks", f"{len(checks)} given", CHECKS_PER_OWNER_MAX)
    known: set[str] = set()
    for check in checks:
        check_check(check)
        if check.id in known:
            raise Invalid(
                f"check.id: {check.id[:80]!r} is that of two checks: give each an id of its own",
                field="check.id",
            )
        known.add(check.id)


def check_check_id(check_id: str) -> None:
    """Raise ``Invalid`` unless it may name a check."""
    if len(check_id) > CHECK_ID_CHARS_MAX or not _PRINTED.fullmatch(check_id):
        raise Invalid(
            f"check.id: {check_id[:80]!r} must be 1 to {CHECK_ID_CHARS_MAX} characters without "
            "control characters, such as 'http' or 'service:web-1'",
            field="check.id",
        )


def check_owner(service: ServiceName, instance_id: InstanceId, node: NodeName) -> None:
    """Raise ``Invalid`` unless it names an instance, or a node, and not both."""
    if bool(service) == bool(node):
        raise Invalid(
            "check: it belongs to an instance (service and id) or to a node: name one of the two",
            field="node" if node else "service",
        )
    if node:
        check_node_name(node)
    else:
        check_service(service)
        check_id(instance_id)


def check_node_name(name: NodeName) -> None:
    """Raise ``Invalid`` unless it may name a machine or an agent."""
    if len(name) > NODE_CHARS_MAX or not _PRINTED.fullmatch(name):
        raise Invalid(
            f"node: {name[:80]!r} must be 1 to {NODE_CHARS_MAX} characters without control "
            "characters: the host name suits most",
            field="node",
        )


def check_node(entry: NodeEntry) -> None:
    """Raise ``Invalid``, naming field, limit and remedy, unless every field is within limits."""
    check_node_name(entry.name)
    for field, text in (("address", entry.address), ("id", entry.id)):
        if len(text) > NODE_CHARS_MAX:
            raise _invalid(f"node.{field}", f"{len(text)} characters", NODE_CHARS_MAX)
    for field, pairs in (("tagged_addresses", entry.tagged_addresses), ("meta", entry.meta)):
        if len(pairs) > META_PAIRS_MAX:
            raise _invalid(f"node.{field}", f"{len(pairs)} pairs", META_PAIRS_MAX)
        for key, value in pairs.items():
            if not 1 <= len(key) <= 128 or len(value) > META_VALUE_CHARS_MAX:
                raise Invalid(
                    f"node.{field}: {key[:80]!r} has a value of {len(value)} characters: keys have "
                    f"1 to 128, values at most {META_VALUE_CHARS_MAX}",
                    field=f"node.{field}",
                )


def _check_target(check: Check) -> None:
    target, kind = check.target, check.kind
    if len(target) > TARGET_CHARS_MAX:
        raise _invalid("check.target", f"{len(target)} characters", TARGET_CHARS_MAX)
    match kind:
        case "http":
            found = _URL.fullmatch(target)
            is_right = found is not None and int(found[1] or 80) in range(1, 65_536)
            is_right = is_right and target.isprintable() and " " not in target
            remedy = "a URL that begins with http:// or https://, without a user and spaces"
        case "tcp":
            is_right, remedy = _is_host_port(target), "host:port, such as 10.0.0.1:8080"
        case "grpc":
            address, _, service = target.partition("/")
            is_right = _is_host_port(address) and service.isprintable()
            remedy = "host:port, or host:port/service"
        case "alias":
            service, _, instance_id = target.rpartition("/")
            is_right, remedy = bool(service and instance_id), "service/instance"
        case "ttl" | "manual":
            is_right, remedy = not target, f"nothing: nobody probes a check of kind {kind!r}"
        case "script":
            is_right, remedy = not target, "nothing: the program stands in 'args'"
    if not is_right:
        raise Invalid(
            f"check.target: {target[:80]!r} of a {kind} check: give {remedy}", field="check.target"
        )


def _check_script(check: Check, scripts_on: NodeName) -> None:
    if not scripts_on or check.kind != "script" or check.runs_on != scripts_on:
        raise Invalid(
            "check.kind: a script is taken by the Consul door alone, from a program on the machine "
            "of a node that was started with --check-scripts: use ttl, http, tcp or grpc",
            field="check.kind",
        )
    if not 1 <= len(check.args) <= ARGS_MAX or not check.args[0]:
        raise Invalid(
            f"check.args: {len(check.args)} given: name a program and its arguments, at most "
            f"{ARGS_MAX} in all",
            field="check.args",
        )
    for arg in check.args:
        if len(arg) > TARGET_CHARS_MAX or "\0" in arg:
            raise _invalid("check.args", f"one of {len(arg)} characters", TARGET_CHARS_MAX)


def _is_host_port(text: str) -> bool:
    found = _HOST_PORT.fullmatch(text)
    return found is not None and 1 <= int(found[1]) <= 65_535


def _check_headers(headers: dict[str, str]) -> None:
    if len(headers) > HEADERS_MAX:
        raise _invalid("check.headers", f"{len(headers)} headers", HEADERS_MAX)
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise Invalid(
                f"check.headers: {name[:80]!r} is no name of a header (RFC 9110, 5.1)",
                field="check.headers",
            )
        if name.lower() in _FRAMING:
            raise Invalid(
                f"check.headers: {name!r} is for the prober to say: leave it out",
                field="check.headers",
            )
        if len(value) > HEADER_CHARS_MAX or not value.isprintable() or not value.isascii():
            raise Invalid(
                f"check.headers: the value of {name!r} must be at most {HEADER_CHARS_MAX} "
                "printable ASCII characters",
                field="check.headers",
            )


def _check_span(field: str, given_ms: int, least_ms: int, most_ms: int) -> None:
    if not least_ms <= given_ms <= most_ms:
        raise Invalid(
            f"check.{field}: {given_ms / 1000:g} s is outside {least_ms / 1000:g} s to "
            f"{most_ms // 3_600_000} h: give a time within that",
            field=f"check.{field}",
        )


def _invalid(field: str, found: str, most: int) -> Invalid:
    return Invalid(f"{field}: {found}, at most {most}: give less", field=field)
