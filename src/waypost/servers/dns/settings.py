"""What can be chosen of the DNS door."""

from collections.abc import Mapping
from typing import Final

import msgspec

TTL_S_MAX: Final = 86_400


class DnsSettings(msgspec.Struct, frozen=True, gc=False):
    """How long answers may be kept by others, and who knows the names that are not ours."""

    ttl_s: int = 0
    """Of every record, and of the answer that there is none."""
    ttls_s: Mapping[str, int] = {}
    """Of the records of a service, where that is another."""
    forward: tuple[tuple[str, int], ...] = ()
    """Hosts (addresses, no names) and ports of servers that are asked for names of others."""

    def ttl_of(self, service: str) -> int:
        """Tell how long the records of a service may be kept."""
        return self.ttls_s.get(service, self.ttl_s)
