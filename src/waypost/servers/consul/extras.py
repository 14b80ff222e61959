"""What Consul knows of a service and Waypost has no field for: kept in its meta, as JSON.

Only what differs from what the other fields say, so most instances have none; and only under
``KEY``, which Consul's clients do not see.
"""

import functools
from typing import Final

import msgspec

from waypost.model import META_VALUE_CHARS_MAX, Instance
from waypost.servers.consul.refusals import Refusal

KEY: Final = "consul"


class ServiceAddress(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of a service's further addresses."""

    address: str = msgspec.field(default="", name="Address")
    port: int = msgspec.field(default=0, name="Port")


class Extras(msgspec.Struct, frozen=True, omit_defaults=True):
    """Them."""

    id: str = ""
    """The service's id, where the instance's does not tell it."""
    address: str = ""
    """The address given, where it is that of the node."""
    no_port: bool = False
    """Whether no port was given; the instance's is then ``NO_PORT``."""
    warning: int = 1
    """Its weight in DNS while it warns."""
    enable_tag_override: bool = False
    kind: str = ""
    tagged: dict[str, ServiceAddress] = {}
    """Its tagged addresses."""


NO_PORT: Final = 1
"""Instances have a port, services of Consul's need none: this one is nobody's (tcpmux)."""
NONE: Final = Extras()
_encode = msgspec.json.Encoder().encode


def extras_of(instance: Instance) -> Extras:
    """What is kept with an instance."""
    kept = instance.meta.get(KEY)
    return NONE if kept is None else _decoded(kept)


def with_extras(meta: dict[str, str], extras: Extras) -> dict[str, str]:
    """Meta, and these beside it."""
    if extras == NONE:
        return meta
    kept = _encode(extras).decode()
    if len(kept) > META_VALUE_CHARS_MAX:
        raise Refusal(
            400,
            f"Invalid service: its id and tagged addresses take {len(kept)} characters together, "
            f"at most {META_VALUE_CHARS_MAX} are kept: give fewer",
        )
    return {**meta, KEY: kept}


def without_extras(meta: dict[str, str]) -> dict[str, str]:
    """Meta as its user gave it."""
    return {key: value for key, value in meta.items() if key != KEY} if KEY in meta else meta


@functools.lru_cache(4096)
def _decoded(kept: str) -> Extras:
    try:
        return msgspec.json.decode(kept, type=Extras)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return NONE  # somebody else's meta has the same name
