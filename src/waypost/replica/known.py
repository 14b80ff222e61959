"""What a node knows of epochs: the one it takes part in, a newer one, and how far old ones may go.

Always true: all of them are of one lineage, one history; ``coming`` is newer than ``started``; what
was released stays so.
"""

from waypost.consensus.core import Nid
from waypost.consensus.epoch import Epoch, Peer
from waypost.errors import ProtocolViolation


class Known:
    """See the module."""

    def __init__(self, me: Nid, lineage: int, started: Epoch | None, left: Epoch | None) -> None:
        self._me = me
        self.lineage = lineage
        self.started = started
        """The epoch that this node takes part in, as member or learner."""
        self.coming: Epoch | None = None
        """The one that it has left that for, and lacks the beginning of."""
        self.released = 0
        """Number of the newest epoch that is known to be."""
        for epoch in (started, left):
            if epoch is not None:
                self.check_lineage(epoch)
        if left is not None and (started is None or left.number > started.number):
            self.coming = left

    @property
    def newest(self) -> Epoch | None:
        """The newest epoch that is known."""
        return self.coming or self.started

    @property
    def number(self) -> int:
        """Of the newest epoch; 0 without one."""
        newest = self.newest
        return newest.number if newest is not None else 0

    @property
    def is_released(self) -> bool:
        """Whether nobody needs the epochs before the newest one any more."""
        return 0 < self.number <= self.released

    @property
    def peers(self) -> dict[Nid, Peer]:
        """The newest epoch's members and those before them, but for this node."""
        newest = self.newest
        known = {} if newest is None else {**newest.sources, **newest.members}
        return {nid: known[nid] for nid in sorted(known) if nid != self._me}

    def is_member(self, epoch: Epoch | None) -> bool:
        """Whether this node votes in it."""
        return epoch is not None and self._me in epoch.members

    def check_lineage(self, epoch: Epoch) -> None:
        """Refuse what belongs to another history."""
        if epoch.lineage != self.lineage:
            raise ProtocolViolation(
                f"epoch {epoch.number} is of lineage {epoch.lineage:#x}, this cluster is of "
                f"{self.lineage:#x}: it has another history"
            )
