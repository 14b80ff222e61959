"""Eureka's names and ours: applications and services, instance ids and ids.

An application is a service in capitals, and what stands before the slash in our name stands after a
dot in theirs: ``orders`` is ``ORDERS``, and ``team-a/orders`` is ``ORDERS.TEAM-A``.

An instance id within our alphabet is the id itself, ``host:app:8080`` for one.  Of any other, the
bytes outside of the alphabet are written ``@XX``, and ``eureka:`` stands before it.  Always true:
``instance_id_of(id_of(x)) == x`` and ``id_of(instance_id_of(y)) == y``, whatever door the id came
by; so an id that only looks escaped is escaped itself.
"""

import re
from typing import Final

from waypost.errors import Invalid
from waypost.model import (
    ID_CHARS_MAX,
    InstanceId,
    ServiceName,
    check_id,
    check_service,
)

_ESCAPED: Final = "eureka:"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")
_OUTSIDE = re.compile(rb"[^A-Za-z0-9._:-]")
_ESCAPE = re.compile(rb"@([0-9A-F]{2})")


def service_of(app: str) -> ServiceName:
    """The service that an application is."""
    name, dot, namespace = app.lower().partition(".")
    service = f"{namespace}/{name}" if dot else name
    try:
        check_service(service)
    except Invalid:
        raise Invalid(
            f"app: {app[:80]!r} cannot be the name of a service: in any case, use 1 to 63 letters, "
            "digits and inner hyphens (no '_'), and after a dot perhaps a namespace of that form, "
            "such as ORDERS or ORDERS.TEAM-A",
            field="app",
        ) from None
    return service


def app_of(service: ServiceName) -> str:
    """The application that a service is."""
    namespace, slash, name = service.rpartition("/")
    return (f"{name}.{namespace}" if slash else name).upper()


def id_of(instance_id: str) -> InstanceId:
    """The id of Eureka's instance id."""
    if _is_plain(instance_id):
        return instance_id
    escaped = _escaped(instance_id)
    if len(escaped) > ID_CHARS_MAX:
        raise Invalid(
            f"instanceId: {instance_id[:80]!r} has {len(escaped)} characters once what is not a "
            f"letter, a digit, '.', '_', ':' or '-' is escaped, at most {ID_CHARS_MAX} are taken",
            field="instanceId",
        )
    check_id(escaped)
    return escaped


def instance_id_of(own_id: InstanceId) -> str:
    """Eureka's instance id of an id."""
    found = _unescaped(own_id)
    return own_id if found is None else found


def _is_plain(instance_id: str) -> bool:
    """Whether it is its own id."""
    return _PLAIN.fullmatch(instance_id) is not None and _unescaped(instance_id) is None


def _escaped(instance_id: str) -> str:
    raw = instance_id.encode("utf-8", "surrogatepass")
    return _ESCAPED + _OUTSIDE.sub(lambda found: b"@%02X" % found[0][0], raw).decode()


def _unescaped(own_id: InstanceId) -> str | None:
    """What it is the escaped form of, if it is one."""
    if not own_id.startswith(_ESCAPED):
        return None
    raw = own_id.removeprefix(_ESCAPED).encode()
    try:
        found = _ESCAPE.sub(lambda code: bytes((int(code[1], 16),)), raw).decode()
    except UnicodeDecodeError:
        return None
    return found if _escaped(found) == own_id and not _is_plain(found) else None
