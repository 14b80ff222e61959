"""What a name asks for.

    [TAG.]SERVICE.service[.DC].DOMAIN          a service; a namespaced one, ``team-a/orders``, is
    [TAG.]SERVICE.NAMESPACE.service[.DC].DOMAIN    ``orders.team-a``
    _SERVICE._PROTO[.NAMESPACE][.service][.DC].DOMAIN    RFC 2782; a proto other than tcp and udp
                                               is a tag, as in Consul
    NODE.node[.DC].DOMAIN                      a machine
    HEX.addr[.DC].DOMAIN                       an address, written as 8 or 32 hex digits
    ns.DOMAIN                                  who answers here

``orders.team-a`` may be ``team-a/orders`` or the tag ``orders`` of ``team-a``: both are candidates,
and the first of them that is registered is meant.  There is one datacenter, ``dc1``.

Knows no registry.  The names are those of Consul's DNS interface.
"""

import ipaddress
import re
from typing import Final

import msgspec

from waypost.servers.dns.message import Labels

DOMAINS: Final = (b"waypost", b"consul")
DATACENTER: Final = b"dc1"
_KINDS: Final = (b"service", b"node", b"addr")
_PLAIN_PROTOCOLS: Final = ("tcp", "udp")
_HEX: Final = re.compile(rb"[0-9a-f]{8}|[0-9a-f]{32}")


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A service, and a tag that its instances need to have if it is not empty."""

    service: str
    tag: str


class OfService(msgspec.Struct, frozen=True, gc=False):
    """Instances of the first of these that is registered."""

    candidates: tuple[Candidate, ...]


class OfNode(msgspec.Struct, frozen=True, gc=False):
    """The addresses of a machine."""

    name: str


class OfAddress(msgspec.Struct, frozen=True, gc=False):
    """An address that the name itself tells: 4 or 16 bytes."""

    address: bytes


class OfServer(msgspec.Struct, frozen=True, gc=False):
    """This server, as the zone's name server."""


class Apex(msgspec.Struct, frozen=True, gc=False):
    """The domain itself."""


class Branch(msgspec.Struct, frozen=True, gc=False):
    """A name that has nothing itself, and names below it."""


class Nothing(msgspec.Struct, frozen=True, gc=False):
    """A name of ours that does not exist, whatever is registered."""


class Reverse(msgspec.Struct, frozen=True, gc=False):
    """Who has this address."""

    address: bytes


class Outside(msgspec.Struct, frozen=True, gc=False):
    """Somebody else's name."""


Meaning = OfService | OfNode | OfAddress | OfServer | Apex | Branch | Nothing | Reverse | Outside


def meaning_of(labels: Labels) -> Meaning:
    """Tell what a name, in lower case, asks for."""
    if not labels or labels[-1] not in DOMAINS:
        return _reverse(labels)
    return _ours(labels[:-1])


def _ours(parts: Labels) -> Meaning:
    """Tell what stands before the domain."""
    if not parts:
        return Apex()
    if parts == (b"ns",):
        return OfServer()
    if parts[-2:] == (DATACENTER, b"dc"):
        parts = parts[:-2]
    elif parts[-1:] == (DATACENTER,):
        parts = parts[:-1]
    if not parts:
        return Branch()
    if parts[-1] not in _KINDS:
        return _service(parts) if _is_rfc_2782(parts) else Nothing()
    kind, parts = parts[-1], parts[:-1]
    if not parts:
        return Branch()
    if kind == b"service":
        return _service(parts)
    if kind == b"node":
        return OfNode(b".".join(parts).decode("latin-1"))
    return _address(parts)


def _is_rfc_2782(parts: Labels) -> bool:
    return len(parts) in (2, 3) and all(each.startswith(b"_") for each in parts[:2])


def _service(parts: Labels) -> Meaning:
    words = [part.decode("latin-1") for part in parts]
    if _is_rfc_2782(parts):
        name, protocol, *namespace = words
        tag = protocol[1:] if protocol[1:] not in _PLAIN_PROTOCOLS else ""
        return OfService((Candidate("/".join([*namespace, name[1:]]), tag),))
    *tags, name = words
    plain = Candidate(name, ".".join(tags))
    if not tags:
        return OfService((plain,))
    *tags, inner = tags
    return OfService((Candidate(f"{name}/{inner}", ".".join(tags)), plain))


def _address(parts: Labels) -> Meaning:
    if len(parts) == 1 and _HEX.fullmatch(parts[0]):
        return OfAddress(bytes.fromhex(parts[0].decode()))
    return Nothing()


def _reverse(labels: Labels) -> Meaning:
    """Read ``1.0.0.127.in-addr.arpa`` and its like for IPv6 (RFC 1035, 3.5; RFC 3596, 2.5)."""
    if labels[-2:] == (b"in-addr", b"arpa") and len(labels) == 6:
        text = b".".join(reversed(labels[:4])).decode("latin-1")
    elif labels[-2:] == (b"ip6", b"arpa") and len(labels) == 34:
        digits = b"".join(reversed(labels[:32])).decode("latin-1")
        text = ":".join(digits[at : at + 4] for at in range(0, len(digits), 4))
    else:
        return Outside()
    try:
        return Reverse(ipaddress.ip_address(text).packed)
    except ValueError:
        return Outside()


def hex_label(address: bytes) -> bytes:
    """The first label of the name that ``OfAddress`` reads."""
    return address.hex().encode()
