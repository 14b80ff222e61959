"""The operator of a simulated cluster: who changes its members and its engine, and tries again.

Machines whose disk was lost come back as new nodes; the operator has each one take the place of the
node that it was, as the leader of a real cluster does for the names of its command line.
"""

from random import Random
from typing import Literal

import msgspec

from waypost.consensus.core import Nid, Ns
from waypost.consensus.epoch import Epoch, Peer
from waypost.errors import Invalid, Unavailable
from waypost.sim.machine import Machine
from waypost.sim.marks import Marks
from waypost.sim.oracle import Oracle
from waypost.sim.plan import MS

EVERY: Ns = 60 * MS
TRIES_MAX = 20


class Wish(msgspec.Struct):
    """A change that somebody wants."""

    kind: Literal["switch", "grow", "shrink", "swap"]
    machine: int
    tries: int = 0


class Operator:
    """See the module."""

    def __init__(self, machines: list[Machine], oracle: Oracle, marks: Marks, rng: Random) -> None:
        self._machines = machines
        self._oracle = oracle
        self._marks = marks
        self._rng = rng
        self._wishes: list[Wish] = []

    def wish(self, wish: Wish) -> None:
        """Take a wish on; it is tried until it is fulfilled, or too often."""
        self._wishes.append(wish)

    def drop_wishes(self) -> None:
        """From now on only lost nodes are replaced."""
        self._wishes.clear()

    def look(self, now: Ns) -> None:
        """Try what is to be done first."""
        epoch = self._oracle.epoch
        leader = self.leader()
        if leader is None or leader.is_paused or leader.process is None:
            return
        members = self._with_replacements(epoch)
        engine = epoch.engine
        if members == epoch.members:
            wish = self._next_wish()
            if wish is None:
                return
            if not self._fulfil(wish, members):
                self._wishes.pop(0)
                return
            if wish.kind == "switch":
                engine = "paxos" if epoch.engine == "raft" else "raft"
        members = dict(sorted(members.items()))
        draw = self._rng.random()
        first: Nid = leader.nid if leader.nid in members and draw < 0.6 else 0
        if draw > 0.8 or (first == 0 and draw < 0.6):
            first = self._rng.choice(list(members))
        try:
            leader.process.change(leader.clock.read(now), engine, members, first)
        except (Unavailable, Invalid) as error:
            self._marks.hit(f"change not now: {type(error).__name__}")
        else:
            self._marks.hit("change asked for")
            if self._wishes:
                self._wishes.pop(0)
            leader.settle()

    def leader(self) -> Machine | None:
        """Who leads in the highest ballot."""
        best: Machine | None = None
        highest = None
        for machine in self._machines:
            if machine.process is not None:
                status = machine.process.member.status
                if status.role == "leader" and (highest is None or status.ballot > highest):
                    best, highest = machine, status.ballot
        return best

    def _next_wish(self) -> Wish | None:
        while self._wishes:
            wish = self._wishes[0]
            wish.tries += 1
            if wish.tries <= TRIES_MAX:
                return wish
            self._wishes.pop(0)
            self._marks.hit("change given up")
        return None

    def _with_replacements(self, epoch: Epoch) -> dict[Nid, Peer]:
        """The members, each with the node that its machine is now."""
        members: dict[Nid, Peer] = {}
        homes = {machine.name: machine for machine in self._machines}
        for nid, peer in epoch.members.items():
            machine = homes[peer.name]
            if machine.nid == nid or not machine.is_up:
                members[nid] = peer
            else:
                members[machine.nid] = machine.peer
        return members

    def _fulfil(self, wish: Wish, members: dict[Nid, Peer]) -> bool:
        """Make the members what is wished for; False if that cannot be."""
        outside = [m for m in self._machines if m.is_up and m.nid not in members]
        if wish.kind in ("shrink", "swap"):
            if len(members) == 1:
                return False
            del members[list(members)[wish.machine % len(members)]]
        if wish.kind in ("grow", "swap"):
            if not outside:
                return False
            chosen = outside[wish.machine % len(outside)]
            members[chosen.nid] = chosen.peer
        return True
