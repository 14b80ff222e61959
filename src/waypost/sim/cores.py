"""Which core an epoch runs on: the one place of the simulator that names them."""

from collections.abc import Callable

from waypost.consensus.core import Boot, Core, Nid, Ns
from waypost.consensus.epoch import Epoch
from waypost.consensus.paxos import PaxosCore
from waypost.consensus.raft import RaftCore
from waypost.consensus.settings import Settings
from waypost.replica.member import MakeCore

_CORES = {"raft": RaftCore, "paxos": PaxosCore}


def core_maker(
    me: Nid, settings: Settings, draw: Callable[[], float], clock: Callable[[], Ns]
) -> MakeCore:
    """What makes the cores of one node."""

    def make(epoch: Epoch, boot: Boot, may_lead_first: bool) -> Core:
        return _CORES[epoch.engine](
            me,
            epoch,
            boot,
            now=clock(),
            may_lead_first=may_lead_first,
            settings=settings,
            draw=draw,
        )

    return make
