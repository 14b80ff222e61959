"""A health check as a provider asks for it, and what it means for one instance.

What is said relative to the instance (a path, a port) is completed when its host is known.  Pure.
"""

from collections.abc import Sequence

import msgspec

from waypost import checks
from waypost.errors import Invalid


class Check(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """What the registry shall look at, how often, and how long it waits; times are in seconds.

    Exactly one of ``http``, ``tcp`` and ``grpc`` says what:
    ``Check(http="/health")``, ``Check(tcp=True)``, ``Check(grpc="/orders", interval=5)``.
    """

    http: str = ""
    """A URL; or ``/path`` of the instance, or ``:port/path`` of its host."""
    tcp: str | bool = False
    """``host:port``; True for the instance's own, ``:port`` of its host."""
    grpc: str | bool = False
    """``host:port`` or ``host:port/service``; True, ``/service`` or ``:port/service`` likewise."""
    interval: float = checks.INTERVAL_MS_DEFAULT / 1000
    timeout: float = 0.0
    """0 stands for 10, or for the interval if that is shorter."""
    method: str = "GET"
    headers: dict[str, str] = {}
    body: str = ""
    tls: bool = False
    """Of ``tcp``, ``grpc`` and a relative ``http``; a URL says so itself."""
    tls_skip_verify: bool = False
    up_after: int = 2
    """So many good probes in a row before it passes again."""
    down_after: int = 2
    """So many bad probes in a row before it is critical."""
    deregister_after: float = 0.0
    """The instance is removed once it is critical for so long; 0 for never."""
    id: str = ""
    """Its name among the instance's checks; by default its kind, numbered from the second on."""


def declared(given: Sequence[Check], host: str, port: int) -> tuple[checks.Check, ...]:
    """Tell what these checks are of an instance that listens there; ``Invalid`` if they cannot."""
    counts: dict[str, int] = {}
    made: list[checks.Check] = []
    for check in given:
        kind, target = _looked_at(check, host, port)
        counts[kind] = counts.get(kind, 0) + 1
        numbered = kind if counts[kind] == 1 else f"{kind}-{counts[kind]}"
        made.append(
            checks.Check(
                check.id or numbered,
                kind=kind,
                target=target,
                interval_ms=round(check.interval * 1000),
                timeout_ms=round(check.timeout * 1000),
                method=check.method,
                headers=dict(check.headers),
                body=check.body,
                tls_skip_verify=check.tls_skip_verify,
                up_after=check.up_after,
                down_after=check.down_after,
                deregister_after_ms=round(check.deregister_after * 1000),
                tls=check.tls and kind != "http",
            )
        )
    checks.check_checks(made)
    return tuple(made)


def _looked_at(check: Check, host: str, port: int) -> tuple[checks.CheckKind, str]:
    asked = [bool(check.http), bool(check.tcp), bool(check.grpc)]
    if sum(asked) != 1:
        raise Invalid(
            f"check: it has {sum(asked)} of http, tcp and grpc: give exactly one, such as "
            "Check(http='/health') or Check(tcp=True)",
            field="check",
        )
    host = f"[{host}]" if ":" in host else host
    own = f"{host}:{port}"
    if check.http:
        scheme = "https" if check.tls else "http"
        match check.http[0]:
            case "/":
                return "http", f"{scheme}://{own}{check.http}"
            case ":":
                return "http", f"{scheme}://{host}{check.http}"
            case _:
                return "http", check.http
    kind: checks.CheckKind = "tcp" if check.tcp else "grpc"
    target = check.tcp or check.grpc
    if target is True:
        return kind, own
    assert isinstance(target, str)
    if target.startswith("/"):
        return kind, own + target
    return kind, host + target if target.startswith(":") else target
