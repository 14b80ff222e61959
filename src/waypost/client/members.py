"""Asks a node about the members of its cluster, or for other ones: for operators' tools.

Knows nothing of sessions, watches and retries: who operates a cluster says which node he asks.
"""

import asyncio
from typing import Final

from waypost import wire
from waypost.client.addresses import parse_addresses
from waypost.client.connection import open_connection
from waypost.client.identity import Identity
from waypost.errors import TimedOut, Unavailable

CONNECT_S: Final = 3.0
CHANGE_S: Final = 30.0
"""How long a change of members may take."""


async def ask_cluster(server: str, ask: wire.ClusterAsk) -> wire.ClusterState:
    """Ask the first of the nodes named by ``server`` that can be reached."""
    trouble: list[str] = []
    for address in parse_addresses(server):
        try:
            connection = await open_connection(address, CONNECT_S, Identity())
        except Unavailable as error:
            trouble.append(f"{address}: {error}")
            continue
        try:
            async with asyncio.timeout(CHANGE_S):
                body = await connection.ask(wire.CLUSTER, wire.encode(ask))
        except TimeoutError:
            raise TimedOut(
                f"no answer within {CHANGE_S:g} s, and the change may still be made: see "
                "'waypost cluster status'"
            ) from None
        finally:
            connection.close()
        return wire.decode_cluster_state(body)
    raise Unavailable("no node could be reached (" + "; ".join(trouble) + ")")
