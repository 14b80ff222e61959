"""A random walk over members: epochs, engines, crashes, losses; then healing, and a close look.

``python -m tests.replica.walk --seconds 60 [--seed N]`` walks for longer than a test should; a seed
that fails is printed, and fails again.

Invariants (compare the module of members): one entry per index, the same at every node, without
holes; nothing acknowledged is lost; nothing after the first committed Seal of an epoch is part of
it; one leader per ballot; a read is no older than what was acknowledged when it began; and, once
faults stop, the newest epoch starts everywhere it is named, gets a leader and commits.
"""

import argparse
import random
import time

from tests.replica.cluster import MS, Cluster, Node

from waypost.consensus.core import Ballot, Boot, Core, Nid
from waypost.consensus.epoch import Epoch
from waypost.consensus.paxos import PaxosCore
from waypost.consensus.raft import RaftCore
from waypost.consensus.settings import LAN
from waypost.consensus.solo import SoloCore
from waypost.errors import Invalid, Unavailable

ENGINES = ("local", "raft", "paxos", "outside")


CORES = {"raft": RaftCore, "paxos": PaxosCore}


def clustered(engine: str, *nids: Nid) -> Cluster:
    """A cluster that is at work, led by the first of its nodes."""
    cluster = Cluster(1, make_core)
    cluster.add(*nids)
    cluster.found(engine, *nids)
    cluster.run(300)
    assert cluster.leader() == nids[0]
    return cluster


def make_core(cluster: Cluster, nid: Nid, epoch: Epoch, boot: Boot, may_lead_first: bool) -> Core:
    """The core that an epoch asks for."""
    if epoch.engine == "local":
        return SoloCore(nid, boot)
    if epoch.engine == "outside":
        return cluster.outside.make(nid, epoch, boot)
    return CORES[epoch.engine](
        nid,
        epoch,
        boot,
        now=cluster.now,
        may_lead_first=may_lead_first,
        settings=LAN,
        draw=cluster.rng.random,
    )


class Walk:
    """One run from one seed."""

    def __init__(self, seed: int, engines: tuple[str, ...] = ENGINES) -> None:
        self.rng = random.Random(seed)
        self.engines = engines
        self.cluster = Cluster(seed, make_core)
        self.leaders: dict[Ballot, Nid] = {}
        self.changes = 0
        self.epochs = 1
        self.last_nid = 0
        self.removed: set[Nid] = set()
        rng = self.rng
        self.weights = {
            "deliver": 40.0,
            "sync": 12 * rng.random() + 4,
            "time": 12 * rng.random() + 2,
            "append": 6 * rng.random() + 1,
            "read": 2 * rng.random(),
            "drop": 4 * rng.random() ** 2,
            "double": 3 * rng.random() ** 2,
            "crash": 1.2 * rng.random() ** 2,
            "cut": 0.4 * rng.random() ** 2,
            "heal": 0.3,
            "newcomer": 0.5 * rng.random(),
            "change": 5 * rng.random(),
            "snapshot": 1.0 * rng.random(),
            "stream": 2.0,
            "transfer": 0.3 * rng.random(),
            "put": 20.0,
            "tell": 20.0,
        }

    def run(self, steps: int) -> None:
        """Walk, heal, and look."""
        size = self.rng.choice((1, 1, 2, 3, 3)) if len(self.engines) > 1 else 1
        self.newcomers(size)
        engine = self.rng.choice([e for e in self.engines if size == 1 or e != "local"])
        self.cluster.found(engine, *self.cluster.nodes, first_leader=1)
        names = list(self.weights)
        weights = [self.weights[name] for name in names]
        for name in self.rng.choices(names, weights, k=steps):
            getattr(self, name)()
            self.look()
        self.heal_and_live()

    def newcomers(self, count: int) -> None:
        for _ in range(count):
            self.last_nid += 1
            self.cluster.add(self.last_nid)

    def look(self) -> None:
        """What is true after every step; who was removed, and is needed no more, ends."""
        for node in self.cluster.up():
            if node.is_retired:
                node.is_up = False
                self.removed.add(node.nid)
                continue
            status = node.status
            if status.role == "leader":
                other = self.leaders.setdefault(status.ballot, node.nid)
                assert other == node.nid, f"two leaders of {status.ballot}: {other}, {node.nid}"
            assert status.applied <= status.commit <= max(status.last, status.commit)

    # What happens

    def some_node(self) -> Node | None:
        nodes = self.cluster.up()
        return self.rng.choice(nodes) if nodes else None

    def deliver(self) -> None:
        wires = self.cluster.wires
        if wires:
            # Mostly in order, sometimes not.
            position = 0 if self.rng.random() < 0.7 else self.rng.randrange(len(wires))
            self.cluster.deliver(position)

    def drop(self) -> None:
        if self.cluster.wires:
            del self.cluster.wires[self.rng.randrange(len(self.cluster.wires))]

    def double(self) -> None:
        if self.cluster.wires:
            self.cluster.deliver(self.rng.randrange(len(self.cluster.wires)), keep=True)

    def sync(self) -> None:
        node = self.some_node()
        if node is not None and node.disk.queue:
            node.sync(self.rng.randint(1, len(node.disk.queue)))

    def time(self) -> None:
        cluster = self.cluster
        deadlines = [node.member.deadline for node in cluster.up()]
        if not deadlines:
            return
        if self.rng.random() < 0.5:
            cluster.now = max(cluster.now, min(*deadlines, cluster.now + 200 * MS))
        else:
            cluster.now += int(self.rng.random() * 20 * MS)
        for node in cluster.up():
            cluster.tick(node)

    def append(self) -> None:
        node = self.leader_or_any()
        if node is not None:
            self.cluster.append(node.nid, self.rng.randbytes(self.rng.choice((3, 20))))

    def read(self) -> None:
        node = self.some_node()
        if node is not None:
            self.cluster.read(node.nid)

    def leader_or_any(self) -> Node | None:
        leading = [node for node in self.cluster.up() if node.status.role == "leader"]
        if leading and self.rng.random() < 0.9:
            return self.rng.choice(leading)
        return self.some_node()

    def crash(self) -> None:
        node = self.some_node()
        if node is None:
            return
        node.crash(self.rng.randint(0, len(node.disk.queue)))
        if self.rng.random() < 0.3:
            return  # it stays away until things heal
        node.start()
        node.drain()

    def cut(self) -> None:
        nids = sorted(self.cluster.nodes)
        if len(nids) > 1:
            one, other = self.rng.sample(nids, 2)
            if self.rng.random() < 0.5:
                self.cluster.cut |= {frozenset((one, nid)) for nid in nids if nid != one}
            else:
                self.cluster.cut.add(frozenset((one, other)))

    def heal(self) -> None:
        self.cluster.cut.clear()
        for node in self.cluster.nodes.values():
            if not node.is_up and not node.is_retired and self.rng.random() < 0.7:
                node.start()
                node.drain()

    def newcomer(self) -> None:
        if len(self.cluster.nodes) - len(self.removed) >= 7:
            return
        met = self.some_node()
        self.newcomers(1)
        if met is not None:
            node = self.cluster.nodes[self.last_nid]
            node.member.met(self.cluster.now, met.nid)
            node.drain()

    def change(self) -> None:
        node = self.leader_or_any()
        if node is None:
            return
        cluster, rng = self.cluster, self.rng
        candidates = [nid for nid in cluster.nodes if nid not in self.removed]
        engine = rng.choice(self.engines)
        size = 1 if engine == "local" else min(rng.randint(1, 5), len(candidates))
        named = rng.sample(candidates, size)
        first = rng.choice((node.nid if node.nid in named else named[0], rng.choice(named), 0))
        try:
            cluster.change(node.nid, engine, *named, first_leader=first)
        except (Invalid, Unavailable):
            return
        self.changes += 1

    def snapshot(self) -> None:
        node = self.some_node()
        if node is not None:
            node.snapshot()

    def stream(self) -> None:
        if self.cluster.snapshots_under_way:
            self.cluster.deliver_snapshot(self.rng.randrange(len(self.cluster.snapshots_under_way)))

    def transfer(self) -> None:
        node = self.leader_or_any()
        if node is not None and node.status.peers:
            try:
                node.member.transfer(self.cluster.now, self.rng.choice(list(node.status.peers)))
            except (Invalid, Unavailable):
                return
            node.drain()

    def put(self) -> None:
        if self.cluster.outside.parts:
            self.cluster.outside.put(self.rng.choice(list(self.cluster.outside.parts)))

    def tell(self) -> None:
        if self.cluster.outside.parts:
            self.cluster.outside.tell(self.rng.choice(list(self.cluster.outside.parts)))

    # After the faults

    def heal_and_live(self) -> None:
        cluster = self.cluster
        cluster.cut.clear()
        for node in cluster.nodes.values():
            if not node.is_up and node.nid not in self.removed:
                node.start()
                node.drain()
        asked: dict[Nid, int] = {}

        def lives() -> bool:
            leader = cluster.leader()
            if leader == 0:
                return False
            newest = max(node.status.epoch.number for node in cluster.up())
            status = cluster.nodes[leader].status
            if status.epoch.number != newest:
                return False
            if leader not in asked:
                asked[leader] = cluster.append(leader, b"alive")
            answer = cluster.nodes[leader].done.get(asked[leader])
            if answer is None or answer.what != "committed":
                if answer is not None:
                    del asked[leader]
                return False
            return all(
                cluster.nodes[nid].status.started
                and cluster.nodes[nid].status.epoch.number == newest
                and len(cluster.nodes[nid].applied) == len(cluster.log)
                for nid in status.epoch.members
            )

        cluster.run(20_000, until=lives)
        assert lives(), "no progress: " + "; ".join(
            f"{node.nid}: {node.status.role} of {node.status.epoch.number} "
            f"({'started' if node.status.started else 'not started'}) at {node.status.commit}"
            for node in cluster.up()
        )
        for index in cluster.acked.values():
            assert index <= len(cluster.log)
        self.epochs = max(node.status.epoch.number for node in cluster.up())


def walks(seconds: float, seed: int, steps: int = 400) -> tuple[int, int]:
    """Walk until the time is up; returns how many runs and epochs it took."""
    end = time.monotonic() + seconds
    runs = epochs = 0
    while time.monotonic() < end:
        try:
            walk = Walk(seed + runs)
            walk.run(steps)
        except BaseException:
            print(f"seed {seed + runs} fails")
            raise
        runs += 1
        epochs += walk.epochs
    return runs, epochs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--only", action="store_true", help="this seed alone")
    asked = parser.parse_args()
    if asked.only:
        Walk(asked.seed).run(asked.steps)
    else:
        print("{} runs, {} epochs".format(*walks(asked.seconds, asked.seed, asked.steps)))
