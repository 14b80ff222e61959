"""Where a registry is: one address or several, as people write them.

    waypost://10.0.0.1:8300,10.0.0.2:8300      several members of one registry
    registry.internal                          the default port
    [2001:db8::1]:8300                         IPv6 in brackets (RFC 3986, section 3.2.2)

Knows no environment: whoever calls decides which text to parse.
"""

import re
from typing import Final

import msgspec

from waypost.errors import Invalid

PORT_DEFAULT: Final = 8300
ADDRESS_DEFAULT: Final = f"127.0.0.1:{PORT_DEFAULT}"
ADDRESSES_MAX: Final = 64
_SCHEME: Final = "waypost"
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}")
_HOST_V6 = re.compile(r"[0-9A-Fa-f:.]{2,45}(%[A-Za-z0-9._-]{1,32})?")
_NOT_OF_ONE: Final = (
    ("@", "a user name"),
    ("/", "a path"),
    ("?", "a query"),
    ("#", "a fragment"),
)
_REMEDY: Final = "write it as 'host:port', or as 'waypost://host:port,host:port' for several"


class Address(msgspec.Struct, frozen=True, order=True, gc=False):
    """One endpoint of the native protocol."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_addresses(text: str) -> tuple[Address, ...]:
    """Read one address or several, in order and without repetition, or raise ``Invalid``."""
    rest = text.strip()
    scheme, found, after = rest.partition("://")
    if found:
        if scheme != _SCHEME:
            raise _invalid(text, f"{scheme}:// is not the native protocol", _wrong_scheme(scheme))
        rest = after
    rest = rest.removesuffix("/")
    if not rest:
        raise _invalid(text, "it names no host")
    addresses = tuple(dict.fromkeys(_parse_one(text, part.strip()) for part in rest.split(",")))
    if len(addresses) > ADDRESSES_MAX:
        raise _invalid(text, f"{len(addresses)} addresses, at most {ADDRESSES_MAX}")
    return addresses


def _parse_one(text: str, part: str) -> Address:
    if not part:
        raise _invalid(text, "there is an empty place in the list: two commas, or one at an end")
    for mark, what in _NOT_OF_ONE:
        if mark in part:
            raise _invalid(text, f"{part!r} has {what}, which a registry's address has not")
    if part.startswith("["):
        host, closed, port = part[1:].partition("]")
        if not closed or (port and not port.startswith(":")):
            raise _invalid(text, f"{part!r} must be '[host]' or '[host]:port'")
        pattern, port = _HOST_V6, port[1:] if port else ""
        has_port = part.endswith(":") or bool(port)
    elif part.count(":") > 1:
        raise _invalid(
            text, f"{part!r} is an IPv6 address without brackets", f"write [{part}]:8300"
        )
    else:
        host, colon, port = part.partition(":")
        pattern, has_port = _HOST, bool(colon)
    if not pattern.fullmatch(host):
        raise _invalid(text, f"{host!r} is neither a host name nor an IP address")
    if not has_port:
        return Address(host, PORT_DEFAULT)
    if not (port.isascii() and port.isdigit()) or not 1 <= int(port[:6]) <= 65_535:
        raise _invalid(text, f"{port!r} is not a port: it must be 1 to 65535")
    return Address(host, int(port))


def _invalid(text: str, what: str, remedy: str = _REMEDY) -> Invalid:
    shown = text if len(text) <= 80 else text[:77] + "..."
    return Invalid(f"address: {shown!r}: {what}: {remedy}", field="address")


def _wrong_scheme(scheme: str) -> str:
    if scheme in ("http", "https"):
        return f"give the registry's native port, by default {PORT_DEFAULT}, without {scheme}://"
    return _REMEDY
