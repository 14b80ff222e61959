"""Who lives: the sessions of this node, and, where it leads, those of nodes that are lost.

A node watches over exactly the sessions that are attached to it, and proposes what it finds; a
leader sees to those whose node it does not hear (``absences``).  A node that knows no leader, while
others may, tells its clients to move there: their leases run on only where somebody can renew them.
"""

import contextlib
import logging
from typing import TYPE_CHECKING, Final

from waypost.commands import Command, Expire, Outcome, Suspect, Sweep, encode_part
from waypost.errors import WaypostError
from waypost.node.absences import Absences, Owners
from waypost.node.sessions import Sessions

if TYPE_CHECKING:
    from waypost.node.node import Node

log = logging.getLogger("waypost.node")

SWEEP_NS: Final = 1_000_000_000
SETTLE_NS: Final = 1_000_000_000
"""How often it is checked that exactly the sessions are watched over that are this node's."""
LEADERLESS_NS: Final = 2_000_000_000
"""A node that is cut off for longer tells its clients to move."""


class Liveness:
    """The duties of one node."""

    def __init__(self, node: "Node") -> None:
        self.sessions = Sessions(self._propose)
        self._node = node
        owners = Owners(self._owner_names, node.sessions_of, self._heard_ns)
        self._absences = Absences(node.name, owners, self._propose)
        self._led_ns = node.clock()
        self._swept_ns = 0
        self._settled_ns = 0

    def led(self, now_ns: int, *, is_new_leader: bool) -> None:
        """Somebody leads; with ``is_new_leader`` it is this node, from now on."""
        self._led_ns = now_ns
        if is_new_leader:
            self._absences.begin(now_ns)

    def settle(self, now_ns: int) -> None:
        """Watch over exactly the sessions that are attached here, each with a full lease if new."""
        node = self._node
        self._settled_ns = now_ns
        self.sessions.settle(node.sessions_of(node.name), node.catalog.revision, now_ns)

    def stalled(self, for_ns: int, now_ns: int) -> None:
        """This node heard nobody for a while, by its own fault."""
        self.sessions.stalled(for_ns, now_ns)
        self._absences.stalled(for_ns)

    def tick(self, now_ns: int) -> None:
        """Do what is due."""
        catalog, writes = self._node.catalog, self._node.writes
        self.sessions.tick(now_ns)
        if now_ns - self._settled_ns >= SETTLE_NS:
            self._settled_ns = now_ns
            if catalog.sessions.count_of(self._node.name) != len(self.sessions):
                self.settle(now_ns)
        if writes.leads:
            if writes.leader_nid:
                self._absences.tick(now_ns)
            if catalog.orphans and now_ns - self._swept_ns >= SWEEP_NS:
                self._swept_ns = now_ns
                self._propose(Sweep())
        elif writes.leader_nid == 0 and now_ns - self._led_ns >= LEADERLESS_NS:
            self._move(now_ns)

    def _move(self, now_ns: int) -> None:
        others = self._node.others
        if others is not None and others.is_cut_off():
            self._led_ns = now_ns
            log.warning("no leader can be reached from here: the clients are told to move")
            self._node.on_move()

    def _owner_names(self) -> list[str]:
        return self._node.catalog.sessions.nodes

    def _heard_ns(self, name: str) -> int:
        others = self._node.others
        return 0 if others is None else others.heard_ns(name)

    def _propose(self, command: Command) -> None:
        self._node.offer(encode_part([command]), [command], _OfItsOwn(self._node, command), 0)


class _OfItsOwn:
    """The owner of a command that the node proposed itself."""

    __slots__ = ("_command", "_node")

    def __init__(self, node: "Node", command: Command) -> None:
        self._node = node
        self._command = command

    def answered(self, ticket: int, revision: int, outcomes: list[Outcome]) -> None:  # noqa: ARG002
        if isinstance(self._command, Expire):
            self._node.sessions.expired(self._command.session, self._command.attachment)

    def failed(self, ticket: int, error: WaypostError) -> None:  # noqa: ARG002
        if isinstance(self._command, Expire | Suspect):
            self._node.sessions.reconsider(self._command.session, self._node.clock())
        with contextlib.suppress(Exception):
            log.warning("%s was not committed: %s", type(self._command).__name__, error)
