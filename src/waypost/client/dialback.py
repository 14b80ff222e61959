"""Asks the registry to dial the address that a provider advertises, and warns if it cannot.

It asks twice, a moment apart, because many a program registers just before it listens.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from waypost import wire
from waypost.client.connection import Connection
from waypost.client.registrations import Wish
from waypost.errors import WaypostError

log = logging.getLogger("waypost")

ASK_AFTER_S: Final = (0.2, 2.0)


async def warn_if_unreachable(wish: Wish, connected: Callable[[], Connection | None]) -> None:
    """Have the address of a registered instance dialled; ``connected`` gives the connection."""
    instance = wish.instance
    body = wire.encode(wire.Verify(instance.service, instance.id))
    verified = wire.Verified(False, "not asked", "")
    for after_s in ASK_AFTER_S:
        await asyncio.sleep(after_s)
        connection = connected()
        if wish.state != "registered" or connection is None:
            return
        try:
            verified = wire.decode_verified(await connection.ask(wire.VERIFY, body))
        except WaypostError as error:
            log.debug("%s could not be verified: %s", instance.id, error)
            return
        if verified.reachable:
            return
    log.warning(
        "%s is registered as %s:%d, but the registry cannot reach it there (%s). It sees this "
        "process at %s. If consumers cannot reach it either, register with host= (the address "
        "that they can reach), and listen on it.",
        instance.id,
        instance.host,
        instance.port,
        verified.why,
        verified.seen_as or "an unknown address",
    )
