"""``/v1/status``: who leads, and who the servers are."""

from waypost.servers.consul.operations import Call, Operation
from waypost.servers.consul.replies import Reply


async def leader(call: Call) -> Reply:
    """The address of the leader; empty while there is none."""
    return call.plain(dict(call.door.servers()).get(call.registry.leader, ""))


async def peers(call: Call) -> Reply:
    """The addresses of all servers."""
    return call.plain([address for _, address in call.door.servers()])


OPERATIONS = (
    Operation("GET", "status/leader", leader),
    Operation("GET", "status/peers", peers),
)
