"""Ports for programs that have to know each other's before they start.

They are below those that systems give to whoever connects (from 32768 on Linux, 49152 elsewhere:
RFC 6335, section 6), so none is taken by a passing connection before its program listens there.
"""

import random
import socket
from typing import Final

FIRST: Final = 20_000
LAST: Final = 32_000


def free_ports(count: int) -> list[int]:
    """So many ports of the loopback address that nobody listens on."""
    found: set[int] = set()
    for port in random.sample(range(FIRST, LAST), LAST - FIRST):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        found.add(port)
        if len(found) == count:
            break
    return sorted(found)
