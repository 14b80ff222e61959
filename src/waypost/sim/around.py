"""What a machine asks of the world that it stands in."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from waypost.consensus.core import Nid, Ns
from waypost.replica.member import MemberStatus
from waypost.sim.messages import Reply

if TYPE_CHECKING:
    from waypost.sim.machine import Machine


class Around(Protocol):
    """The world, as a machine sees it."""

    now: Ns

    def call(self, at: Ns, what: Callable[[Ns], None]) -> None:
        """Do something later."""
        ...

    def post(self, source: int, target: Nid, parcel: object) -> None:
        """Send to wherever a node lives."""
        ...

    def answer(self, machine: int, reply: Reply) -> None:
        """Send to a client."""
        ...

    def retired(self, machine: "Machine") -> None:
        """A node that was removed is not needed any more."""
        ...

    def ended(self, machine: "Machine") -> None:
        """A process has ended, and its machine goes on without it."""
        ...

    def told(self, machine: "Machine", status: MemberStatus) -> None:
        """A node's role, leader or epoch changed."""
        ...

    def story(self, what: str) -> None:
        """Something worth telling happened."""
        ...
