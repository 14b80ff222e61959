"""What Consul calls things, and what Waypost does.

A service's name is lower case here; one in a namespace, ``team-a/orders``, is ``orders.team-a``.
In Consul a service's id is its own only on its agent, so on another node it may stand for another
service.  Here an id is unique within a service.  So an instance that was registered through this
door is ``ID@NODE``; only while a registry has a single server, that one's own services keep their
ids as they are (there is nobody whose they could be).  What does not fit into an id is hashed, and
kept beside it.

The rule looks at nothing but the id and the node, so two servers that register the same id at the
same moment never overwrite each other.
"""

import hashlib
import re
from typing import Final

from waypost.errors import Invalid
from waypost.model import NAME_CHARS_MAX, Instance, check_service
from waypost.servers.consul.extras import extras_of
from waypost.servers.consul.refusals import Refusal

_UNFIT: Final = re.compile(r"[^a-z0-9]+")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")


def shown_name(service: str) -> str:
    """A service's name as Consul's clients see it."""
    namespace, slash, name = service.rpartition("/")
    return f"{name}.{namespace}" if slash else service


def read_name(text: str) -> str:
    """The service that a client means, whether there may be one or not."""
    name, dot, namespace = text.lower().partition(".")
    return f"{namespace}/{name}" if dot else name


def checked_name(text: str) -> str:
    """The service that a client wants to register; refused if it has no such name here."""
    name = read_name(text)
    try:
        check_service(name)
    except Invalid:
        fitting = ".".join(_fitting(part) for part in text.lower().split(".", 1))
        raise Refusal(
            400,
            f"Invalid service name {text[:80]!r}: Name is a DNS label here, 1 to {NAME_CHARS_MAX} "
            "letters, digits and inner hyphens, so that every door can show it: register and look "
            f"it up as {fitting!r}",
        ) from None
    return name


def _fitting(part: str) -> str:
    """The label nearest to a part of a name."""
    return _UNFIT.sub("-", part).strip("-")[:NAME_CHARS_MAX].rstrip("-") or "orders"


def node_of(instance: Instance) -> str:
    """The node that an instance is on: the one it names, or else its host."""
    return instance.node or instance.host


def service_id_of(instance: Instance) -> str:
    """The id that the service has on its node."""
    return extras_of(instance).id or instance.id.removesuffix(f"@{instance.node}")


def qualified_id(service_id: str, node: str) -> str:
    """The id of an instance on a node, unique within the service."""
    qualified = f"{service_id}@{node}"
    if _ID.fullmatch(qualified) and "@" not in node:  # or it would not be the only one
        return qualified
    return f"id-{hashlib.blake2b(qualified.encode(), digest_size=12).hexdigest()}"


def is_plain_id(service_id: str) -> bool:
    """Whether it may be an instance's id as it is, and is no other's with its node."""
    return _ID.fullmatch(service_id) is not None and "@" not in service_id
