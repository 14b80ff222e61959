"""A change of epochs with one fault at every step of it, and, at length, with two.

A systematic search instead of a random one (compare Emmi, Qadeer and Rakamaric, "Delay-bounded
scheduling", POPL 2011): the schedule is fixed but for at most one, or two, deviations, and each
kind of deviation is tried at each step.  The tests try a sample of the pairs; this tries them all,
or one in N, which takes hours, or not:

    python -m tests.replica.every_fault [--one-in N]
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import islice

from tests.replica.cluster import MS, Cluster
from tests.replica.walk import Walk, make_core

from waypost.consensus.core import Nid

STEPS = 46
Fault = tuple[str, Nid]
FAULTS: list[Fault] = [
    ("lose", 0),
    ("delay", 0),
    *[("crash", nid) for nid in (1, 2, 3)],
    *[("die", nid) for nid in (1, 2, 3)],
    *[("cut", nid) for nid in (1, 2, 3)],
]


class Story(Walk):
    """Three nodes, two epochs; ``faults`` says what goes wrong before which step."""

    def __init__(self, faults: dict[int, Fault], old: str, new: str, named: Sequence[Nid]) -> None:
        super().__init__(7)
        self.faults = faults
        self.cluster = cluster = Cluster(7, make_core)
        cluster.add(1, 2, 3)
        cluster.found(old, 1, 2, 3, first_leader=1)
        cluster.run(40)
        self.begin = len(cluster.log)
        cluster.append(1, b"long before")
        cluster.run(100)
        cluster.append(1, b"before")
        cluster.change(1, new, *named, first_leader=named[0])
        cluster.append(1, b"held")

    def tell(self) -> None:
        """Go on, one event after the other, with the faults; then heal, and look."""
        for step in range(STEPS):
            if step in self.faults:
                self.happen(*self.faults[step])
            if not self.act():
                self.cluster.now += 40 * MS
                for node in self.cluster.up():
                    self.cluster.tick(node)
            self.look()
        self.heal_and_live()

    def act(self) -> bool:
        """Disks first, so that there is something between any two messages."""
        for node in self.cluster.up():
            if node.disk.queue:
                node.sync(1)
                return True
        if self.cluster.wires:
            self.cluster.deliver()
            return True
        return False

    def happen(self, what: str, nid: Nid) -> None:
        cluster = self.cluster
        if what in ("lose", "delay"):
            if cluster.wires:
                wire = cluster.wires.pop(0)
                cluster.wires += [wire] if what == "delay" else []
        elif what == "cut":
            cluster.cut_off(nid)
        elif cluster.nodes[nid].is_up:
            cluster.nodes[nid].crash(0 if what == "die" else len(cluster.nodes[nid].disk.queue))
            if what == "crash":
                cluster.nodes[nid].start()
                cluster.nodes[nid].drain()


def tell(faults: dict[int, Fault], old: str, new: str, named: Sequence[Nid]) -> None:
    story = Story(faults, old, new, named)
    try:
        story.tell()
    except BaseException as error:
        raise AssertionError(f"{old} to {new} of {named} with {faults}") from error


CHANGES = [
    ("raft", "paxos", (1, 2, 3)),
    ("paxos", "raft", (2, 1, 3)),
    ("raft", "raft", (1, 2)),
    ("paxos", "local", (2,)),
]


def pairs(part: int, parts: int) -> Iterator[dict[int, Fault]]:
    """All pairs of faults at two steps, or a part of them."""
    every = (
        {first: one, second: other}
        for first in range(STEPS)
        for second in range(first + 1, STEPS)
        for one in FAULTS
        for other in FAULTS
    )
    return islice(every, part, None, parts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one-in", type=int, default=1, metavar="N")
    asked = parser.parse_args()
    for old, new, named in CHANGES:
        tried = 0
        for faults in pairs(0, asked.one_in):
            tell(faults, old, new, named)
            tried += 1
        print(f"{old} to {new} of {named}: {tried} pairs of faults", flush=True)
