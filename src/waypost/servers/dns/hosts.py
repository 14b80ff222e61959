"""What DNS can say of the host that an instance gave: an address, a name, or nothing.

``localhost`` is the loopback address everywhere (RFC 6761, section 6.3).  An address of one link
only (``fe80::1%eth0``) and what is no name in the sense of RFC 1035 cannot be said, and the
instance is left out of answers.
"""

import functools
import ipaddress

from waypost.servers.dns.message import LABEL_BYTES_MAX, NAME_BYTES_MAX, Labels

_CACHED = 65_536


@functools.lru_cache(_CACHED)
def read_host(host: str) -> bytes | Labels | None:
    """Its address (4 or 16 bytes), its name, or None for what DNS cannot say."""
    if host.lower().rstrip(".") == "localhost":
        return b"\x7f\x00\x00\x01"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return _read_name(host)
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return None
        return address.ipv4_mapped.packed if address.ipv4_mapped else address.packed
    return address.packed


def _read_name(host: str) -> Labels | None:
    labels = tuple(host.lower().removesuffix(".").encode().split(b"."))
    if any(not 0 < len(each) <= LABEL_BYTES_MAX or b":" in each or b"%" in each for each in labels):
        return None
    return labels if sum(len(each) + 1 for each in labels) < NAME_BYTES_MAX else None
