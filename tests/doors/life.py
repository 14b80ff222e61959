"""What instances live through, in front of whoever looks: five of them, named by their fates.

All that may happen to one happens to some of them at once, because a client that looks every few
seconds makes each step as long as that.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from tests.doors.over_http import Api
from tests.processes.cluster import ClusterProcesses

SERVICE = "web"
FATES = ("ill", "drained", "gone", "well", "late")
Told = dict[str, str]
"""The instances that are registered, and their health."""


def live_through(
    api: Api,
    places: dict[str, dict[str, Any]],
    sees: Callable[[Told], None],
    kill_the_leader: Callable[[], None],
) -> None:
    """Have them come, get ill, be drained, leave and come back, and lose the leader.

    ``places`` says what each registers with; ``sees`` waits until that is seen.
    """

    def register(*ids: str) -> None:
        for each in ids:
            api.register(SERVICE, each, **places[each])

    all_well = dict.fromkeys(("ill", "drained", "gone", "well"), "passing")
    register(*all_well)
    sees(all_well)

    api.say(SERVICE, "ill", "critical")
    api.say(SERVICE, "drained", "draining")
    api.deregister(SERVICE, "gone")
    sees({"ill": "critical", "drained": "draining", "well": "passing"})

    api.say(SERVICE, "ill", "passing")
    api.say(SERVICE, "drained", "passing")
    register("gone")
    sees(all_well)

    kill_the_leader()
    sees(all_well)
    api.deregister(SERVICE, "well")
    register("late")
    sees(dict.fromkeys(("ill", "drained", "gone", "late"), "passing"))


def usable(told: Told) -> set[str]:
    """Whom a consumer should call."""
    return {each for each, health in told.items() if health == "passing"}


def killer(cluster: ClusterProcesses) -> Callable[[], None]:
    """Kills who leads then."""
    return lambda: asyncio.run(cluster.leader()).kill()
