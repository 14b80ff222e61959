"""Equal logs have equal effects and equal states, at every node; a write has its effect once.

What the first node says came of an entry is what all must say, whenever they apply it.
"""

from collections.abc import Iterable
from hashlib import blake2b

from waypost.catalog.state import Applied
from waypost.commands import Origin, Outcome, Refused
from waypost.consensus.core import Index, Nid
from waypost.errors import TooOld
from waypost.sim.violation import Violation


class Effects:
    """What entries did, and what the states were after them."""

    def __init__(self) -> None:
        self.once: list[tuple[str, int, Index]] = []
        """Which write of which client took effect where."""
        self._outcomes: dict[Index, bytes] = {}
        self._digests: dict[Index, bytes] = {}

    def came_of(self, nid: Nid, index: Index, outcomes: bytes) -> None:
        """What came of the entry at ``index`` at one node."""
        if self._outcomes.setdefault(index, outcomes) != outcomes:
            raise Violation("state", f"entry {index} had another effect at node {nid} than before")

    def took(self, origins: Iterable[Origin | None], applied: Applied, index: Index) -> None:
        """The writes of the entry at ``index``, but for those that had been applied before."""
        for place, origin in enumerate(origins):
            if origin is None or place in applied.repeated:
                continue
            if not any(_is_too_old(outcome) for outcome in applied.outcomes[place]):
                self.once.append((origin.client, origin.seq, index))

    def state(self, nid: Nid, index: Index, data: bytes) -> None:
        """The whole state of a node after ``index``."""
        digest = blake2b(data, digest_size=8).digest()
        if self._digests.setdefault(index, digest) != digest:
            raise Violation(
                "state", f"node {nid} has another state after entry {index} than others had"
            )


def _is_too_old(outcome: Outcome) -> bool:
    """Whether the write came again after so many others that nobody knows any more."""
    return isinstance(outcome, Refused) and outcome.code == TooOld.code
