"""Where probes may go: a registry must not be talked into asking what its user cannot reach.

Whoever may register a check chooses an address that this node then connects to, and may read what
it says: server-side request forgery.  The classic target is the metadata service of a cloud at a
link-local address, which hands out credentials to whoever asks from the machine.  So by default
link-local addresses are refused, and the few others at which clouds keep such services; with
``--check-allow`` only the given networks are allowed, and nothing else.

It is the address that is judged, after the name was resolved, and the very address that is then
connected to: a name that answers differently the second time gains nothing.
"""

from collections.abc import Collection
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

from waypost.errors import Invalid

Network = IPv4Network | IPv6Network

REFUSED: Final[tuple[Network, ...]] = tuple(
    map(
        ip_network,
        (
            "169.254.0.0/16",  # link-local (RFC 3927); metadata of AWS, Azure, GCP and others
            "fe80::/10",  # link-local (RFC 4291)
            "fd00:ec2::/32",  # metadata of AWS over IPv6
            "100.100.100.200/32",  # metadata of Alibaba Cloud
            "168.63.129.16/32",  # Azure's platform address
            "192.0.0.192/32",  # metadata of Oracle Cloud, formerly
            "0.0.0.0/8",
            "::/128",
            "224.0.0.0/4",
            "255.255.255.255/32",
            "ff00::/8",
        ),
    )
)


class Allowed:
    """Which addresses may be probed."""

    def __init__(self, networks: Collection[str] | None = None) -> None:
        """Without networks all addresses but ``REFUSED``; with some only those."""
        self._networks = None if networks is None else tuple(map(_network, networks))
        self.permits = lru_cache(maxsize=65_536)(self._permits)
        """Whether a literal address may be probed; asked for each probe, so remembered."""

    def _permits(self, address: str) -> bool:
        try:
            found: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(found, IPv6Address):
            found = found.ipv4_mapped or found.sixtofour or found
        if self._networks is None:
            return not any(found in network for network in REFUSED)
        return any(found in network for network in self._networks)


def _network(given: str) -> Network:
    try:
        return ip_network(given, strict=False)
    except ValueError:
        raise Invalid(
            f"check-allow: {given!r} is no network: give addresses or prefixes such as "
            "10.0.0.0/8,127.0.0.1, or none to allow no probes at all",
            field="check-allow",
        ) from None
