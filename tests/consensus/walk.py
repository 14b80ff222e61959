"""Random walks of a cluster of cores, and an omniscient checker.

Any order of messages, loss, duplication, cut links, crashes with any prefix of the writes under way
kept, clocks that restart at random, snapshots, transfers, full disks, rotten entries, one disk that
is suspect.  Then everything heals, and everything must come to an end.

    python -m tests.consensus.walk --engine raft --seconds 60 [--seed 7]
"""

import argparse
import random
import time
import zlib
from typing import Any

from waypost.consensus.core import Ballot, Entry, Hard, Ready, Snap
from waypost.consensus.entry import KIND_BATCH, KIND_SEAL
from waypost.consensus.epoch import Epoch, Peer
from waypost.consensus.messages import CoreMessage
from waypost.consensus.settings import Settings

from .hosts import Host, over_the_wire

MS = 1_000_000


class Broken(AssertionError):
    """Something that must never be."""


class Walker(Host):
    """A host whose applied entries are compared with everybody's."""

    world: "World"
    offset = 0

    def on_applied(self, entry: Entry) -> None:
        self.world.saw_applied(self, entry)


class World:
    """One cluster, one seed."""

    def __init__(self, engine: str, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.engine = engine
        self.seed = seed
        self.now = 1000 * MS
        self.size = rng.choice((1, 2, 3, 3, 3, 3, 4, 5, 5))
        self.settings = Settings(
            leases=rng.random() < 0.3,
            append_bytes_max=rng.choice((100, 300, 1 << 18)),
            window_bytes=rng.choice((200, 1000, 1 << 22)),
            uncommitted_bytes_max=rng.choice((500, 5000, 1 << 24)),
            suffix_bytes_max=rng.choice((500, 1 << 24, 1 << 24)),
            trailing_entries=rng.choice((0, 3, 10_000)),
            trailing_bytes=rng.choice((0, 300, 1 << 26)),
        )
        nids = rng.sample(range(1, 100), self.size)
        first_leader = rng.choice((0, nids[0]))
        number = rng.choice((1, 1, 3))
        first = 1 if number == 1 else 3
        peers = {nid: Peer(str(nid), "") for nid in nids}
        self.epoch = Epoch(1, number, engine, peers, first, first_leader)
        self.members = tuple(nids)
        ballot = Ballot(number, 1, first_leader) if first_leader else Ballot(number, 0, 0)
        hard = Hard(ballot, Ballot(number, 0, 0), first - 1)
        earlier: list[Entry] = []
        if first > 1:
            earlier = self._earlier(first - 1)
        self.hosts: dict[int, Walker] = {}
        for nid in nids:
            host = Walker(nid, self.epoch, engine, self.settings, rng.random, hard)
            host.world = self
            host.offset = rng.randrange(10_000) * MS
            host.disk.entries = list(earlier)
            self.hosts[nid] = host
        self.net: list[tuple[int, int, CoreMessage]] = []
        self.cuts: set[tuple[int, int]] = set()
        self.cuts_at_once = rng.random() < 0.5  # what is under way when a link is cut arrives
        self.asleep: set[int] = set()
        self.installs: list[tuple[int, int, int, int]] = []  # from, to, index, state
        self.snaps: dict[int, Snap] = {}
        # What is known of the one true log.
        self.log: dict[int, tuple[int, Ballot, int]] = {}  # index: chain, ballot, token
        self.states: dict[int, int] = {0: 0}
        self.heights: list[tuple[int, int]] = [(self.now, 0)]  # when, highest committed
        self.leaders: dict[Ballot, int] = {}
        self.token = 0
        self.open: dict[int, int] = {}  # tokens of proposals: node
        self.answers: dict[int, str] = {}
        self.committed_tokens: dict[int, int] = {}
        self.reading: dict[int, tuple[int, int]] = {}  # token: node, floor
        self.promised: dict[int, Ballot] = {}
        self.sealed = 0
        self.rots = 0
        self.amnesiac = 0
        self.steps = 0
        self.weights = {
            "deliver": 60,
            "time": rng.choice((2, 5, 15)),
            "persist": rng.choice((5, 20, 40)),
            "propose": rng.choice((3, 10)),
            "read": 4,
            "drop": rng.choice((0, 2, 10)),
            "crash": rng.choice((0, 0.3, 1.5)),
            "restart": 3,
            "cut": rng.choice((0, 0.5, 1)),
            "mend": 1,
            "sleep": rng.choice((0, 0.5)),
            "wake": 1,
            "snapshot": rng.choice((0, 0.5, 2)),
            "install": 2,
            "transfer": rng.choice((0, 0.3, 1)),
            "gone": rng.choice((0, 0.3, 1)),
            "space": rng.choice((0, 0, 0.3)),
            "rot": rng.choice((0, 0, 0.5)),
            "seal": rng.choice((0, 0, 0, 0.05)),
            "election": rng.choice((0, 0, 1, 3)),
            "forget": rng.choice((0, 0, 0, 0.3)),
            "isolate": rng.choice((0, 0, 1, 2)),
        }
        for nid in nids:
            self._boot(nid, may_lead_first=True)

    def _earlier(self, last: int) -> list[Entry]:
        from waypost.consensus.entry import encode

        entries: list[Entry] = []
        chain = 0
        for index in range(1, last + 1):
            kind = KIND_SEAL if index == last else KIND_BATCH
            entry = encode(index, Ballot(2, 1, 1), kind, b"", chain)
            entries.append(entry)
            chain = entry.chain
        return entries

    def fail(self, what: str) -> None:
        raise Broken(what)

    # Driving

    def clock(self, nid: int) -> int:
        return self.now + self.hosts[nid].offset

    def _boot(self, nid: int, *, may_lead_first: bool = False) -> None:
        host = self.hosts[nid]
        host.offset = self.rng.randrange(10_000) * MS
        host.boot(self.clock(nid), may_lead_first=may_lead_first)
        self._after(host)

    def _after(self, host: Walker) -> None:
        now = self.clock(host.nid)
        for ready in host.drain(now):
            self._carry(host, ready)
        self._check(host)

    def _carry(self, host: Walker, ready: Ready) -> None:
        for dst, message in ready.send:
            if dst == host.nid:
                self.fail(f"{dst} sends to itself")
            if not (self.cuts_at_once and (host.nid, dst) in self.cuts):
                self.net.append((host.nid, dst, over_the_wire(message)))
        for done in ready.done:
            self._answered(host, done.token, done.what, done.index)
        for token, index in ready.reads:
            node, floor = self.reading.pop(token)
            if index < floor:
                self.fail(f"a read at {node} sees {index}, and {floor} was committed before it")
        for token in ready.reads_failed:
            self.reading.pop(token)
        for dst, index in ready.send_snapshot:
            if index not in host.snapshots:
                self.fail(f"{host.nid} is to send a snapshot at {index} that it has not")
            self.installs.append((host.nid, dst, index, host.snapshots[index]))
        if ready.restore is not None:
            self.saw_state(host)

    def _answered(self, host: Walker, token: int, what: str, index: int) -> None:
        if self.open.pop(token, 0) != host.nid:
            self.fail(f"{token} was answered twice")
        self.answers[token] = what
        if what == "committed" and self.log.get(index, (0, None, 0))[2] != token:
            self.fail(f"{token} is not at {index}")
        if what in ("lost", "refused") and token in self.committed_tokens:
            self.fail(f"{token} is {what}, and stands at {self.committed_tokens[token]}")

    def saw_applied(self, host: Walker, entry: Entry) -> None:
        """A node applied an entry."""
        index = entry.index
        token = 0
        if len(entry.payload) >= 8:
            token = int.from_bytes(bytes(entry.payload[:8]), "big")
        fact = (entry.chain, entry.ballot, token)
        if index not in self.log:
            if self.log and index != max(self.log) + 1:
                self.fail(f"{index} is committed and {max(self.log)} was the last one")
            if self.sealed and index > self.sealed:
                self.fail(f"{index} is applied after the Seal at {self.sealed}")
            self._check_quorum(entry)
            self.log[index] = fact
            self.states[index] = host.state
            self.heights.append((self.now, index))
            if token:
                if token in self.committed_tokens:
                    self.fail(f"{token} stands at {self.committed_tokens[token]} and {index}")
                if self.answers.get(token) in ("lost", "refused"):
                    self.fail(f"{token} was {self.answers[token]} and is at {index}")
                self.committed_tokens[token] = index
            if entry.kind == KIND_SEAL and entry.ballot.epoch == self.epoch.number:
                self.sealed = index
        elif self.log[index] != fact:
            self.fail(f"{host.nid} applies {fact} at {index}, and it was {self.log[index]}")
        self.saw_state(host)

    def saw_state(self, host: Walker) -> None:
        if self.states.get(host.applied, host.state) != host.state:
            self.fail(f"{host.nid} has another state at {host.applied}")

    def _check_quorum(self, entry: Entry) -> None:
        if entry.index < self.epoch.first:
            return
        holders = 0
        for host in self.hosts.values():
            disk = host.disk
            has = entry.index <= disk.snap.index or disk.ballot_at(entry.index) == entry.ballot
            # What was acknowledged and then lost counts: its disk will ask before it votes again.
            holders += has or host.nid == self.amnesiac
        if holders <= self.size // 2:
            self.fail(f"{entry.index} of {entry.ballot} is committed and only {holders} hold it")

    def _check(self, host: Walker) -> None:
        assert host.core is not None
        status = host.core.status
        if status.role == "leader":
            first = self.leaders.setdefault(status.ballot, host.nid)
            if first != host.nid:
                self.fail(f"two leaders in {status.ballot}")
        fresh = status.fresh - host.offset
        if status.fresh:
            if fresh > self.now:
                self.fail(f"{host.nid} is fresher than now")
            for when, height in reversed(self.heights):
                if when < fresh:
                    if height > host.applied:
                        self.fail(
                            f"{host.nid} says it is fresh at {fresh} with {host.applied}, and "
                            f"{height} was committed at {when}"
                        )
                    break

    # Steps

    def up(self) -> list[Walker]:
        return [host for host in self.hosts.values() if host.core is not None]

    def step(self) -> None:
        self.steps += 1
        names = list(self.weights)
        name = self.rng.choices(names, list(self.weights.values()))[0]
        getattr(self, f"do_{name}")()

    def awake(self) -> Walker | None:
        hosts = [host for host in self.up() if host.nid not in self.asleep]
        return self.rng.choice(hosts) if hosts else None

    def do_deliver(self) -> None:
        if not self.net:
            self.do_time()
            return
        near = min(len(self.net), self.rng.choice((1, 3, 30)))
        position = self.rng.randrange(near)
        src, dst, message = self.net[position]
        host = self.hosts[dst]
        if dst in self.asleep:
            return
        if self.rng.random() > 0.05:
            del self.net[position]
        if host.core is None or (not self.cuts_at_once and (src, dst) in self.cuts):
            return
        host.core.receive(self.clock(dst), src, message)
        self._after(host)

    def do_drop(self) -> None:
        if self.net:
            del self.net[self.rng.randrange(len(self.net))]

    def do_time(self) -> None:
        choice = self.rng.random()
        hosts = [host for host in self.up() if host.nid not in self.asleep]
        if choice < 0.7 and hosts:
            at = min(host.core.deadline - host.offset for host in hosts if host.core)
            self.now = min(max(self.now, at), self.now + 400 * MS)
        else:
            self.now += self.rng.choice((1, 5, 40)) * MS
        for host in hosts:
            if host.core and self.clock(host.nid) >= host.core.deadline:
                host.tick(self.clock(host.nid))
                self._after(host)

    def do_election(self) -> None:
        """One node's clock runs ahead: it stands for election."""
        host = self.awake()
        if host is None or host.core is None or host.core.status.role == "leader":
            return
        ahead = max(0, host.core.deadline - self.clock(host.nid))
        if self.settings.leases:
            self.now += ahead  # a lease needs clocks that agree: the others are late instead
        elif ahead < 400 * MS:
            host.offset += ahead
            self.heights = [(self.now, self.heights[-1][1])]
        else:
            return
        host.tick(self.clock(host.nid))
        self._after(host)

    def do_isolate(self) -> None:
        """A leader hears nobody, or one of the others, and its clock stands almost still."""
        leaders = [host for host in self.up() if host.core and host.core.status.role == "leader"]
        if leaders:
            a = self.rng.choice(leaders).nid
            spared = self.rng.choice((a, *self.members))
            for b in self.members:
                if b not in (a, spared):
                    self.cuts |= {(a, b), (b, a)}
            for _ in range(self.rng.choice((0, 0, 2))):
                self.do_election()

    def do_persist(self) -> None:
        hosts = [host for host in self.up() if host.flying]
        if hosts:
            host = self.rng.choice(hosts)
            host.persist(self.clock(host.nid), self.rng.randint(1, len(host.flying)))
            self._after(host)

    def do_propose(self) -> None:
        leaders = [host for host in self.up() if host.core and host.core.status.role == "leader"]
        host = self.rng.choice(leaders) if leaders and self.rng.random() < 0.9 else self.awake()
        if host is None or host.core is None:
            return
        for _ in range(self.rng.choice((1, 1, 3))):
            self.token += 1
            self.open[self.token] = host.nid
            payload = self.token.to_bytes(8, "big") + bytes(self.rng.randrange(120))
            host.core.propose(self.clock(host.nid), payload, self.token)
        if self.rng.random() < 0.8:
            self._after(host)

    def do_read(self) -> None:
        leaders = [host for host in self.up() if host.core and host.core.status.role == "leader"]
        host = self.rng.choice(leaders) if leaders and self.rng.random() < 0.6 else self.awake()
        if host is not None and host.core is not None:
            self.token += 1
            self.reading[self.token] = (host.nid, max(self.log, default=0))
            host.core.read(self.clock(host.nid), self.token)
            if self.rng.random() < 0.8:
                self._after(host)

    def do_crash(self) -> None:
        host = self.awake()
        if host is not None:
            self.crash(host)

    def crash(self, host: Walker) -> None:
        host.crash(self.rng.randint(0, len(host.flying)))
        for token in [token for token, nid in self.open.items() if nid == host.nid]:
            del self.open[token]
        for token in [token for token, (nid, _) in self.reading.items() if nid == host.nid]:
            del self.reading[token]

    def do_restart(self) -> None:
        down = [host for host in self.hosts.values() if host.core is None]
        if down:
            self._boot(self.rng.choice(down).nid)

    def do_cut(self) -> None:
        a, b = self.rng.choice(self.members), self.rng.choice(self.members)
        if a != b:
            self.cuts.add((a, b))
            if self.rng.random() < 0.7:
                self.cuts.add((b, a))
        if self.rng.random() < 0.2:  # alone
            for b in self.members:
                if a != b:
                    self.cuts |= {(a, b), (b, a)}

    def do_mend(self) -> None:
        if self.cuts:
            self.cuts.discard(self.rng.choice(sorted(self.cuts)))
            if self.rng.random() < 0.3:
                self.cuts.clear()

    def do_sleep(self) -> None:
        if len(self.asleep) < 2:
            self.asleep.add(self.rng.choice(self.members))

    def do_wake(self) -> None:
        if self.asleep:
            self.asleep.discard(self.rng.choice(sorted(self.asleep)))

    def do_snapshot(self) -> None:
        host = self.awake()
        if host is not None and (snap := host.snapshot()) is not None:
            known = self.snaps.setdefault(snap.index, snap)
            if known != snap:
                self.fail(f"two snapshots at {snap.index}: {known} and {snap}")
            self._after(host)

    def do_install(self) -> None:
        if not self.installs:
            return
        src, dst, index, state = self.installs.pop(self.rng.randrange(len(self.installs)))
        host = self.hosts[dst]
        ok = host.core is not None and (src, dst) not in self.cuts and self.rng.random() < 0.8
        if ok and host.core is not None:
            host.snapshots.setdefault(index, state)
            snap = self.snaps[index]
            host.core.snapshot_staged(self.clock(dst), src, host.core.status.ballot, snap)
            self._after(host)
        sender = self.hosts[src]
        if sender.core is not None:
            sender.core.snapshot_sent(self.clock(src), dst, index, ok)
            self._after(sender)

    def do_transfer(self) -> None:
        host = self.awake()
        if host is not None and host.core is not None:
            host.core.transfer(self.clock(host.nid), self.rng.choice(self.members))
            self._after(host)

    def do_gone(self) -> None:
        """Somebody takes another for ended, rightly or not."""
        host = self.awake()
        if host is not None and host.core is not None:
            host.core.gone(self.clock(host.nid), self.rng.choice(self.members))
            self._after(host)

    def do_space(self) -> None:
        host = self.awake()
        if host is not None and host.core is not None:
            host.core.space(self.rng.random() < 0.6)
            self._after(host)

    def do_seal(self) -> None:
        host = self.awake()
        if host is not None and host.core is not None:
            self.token += 1
            self.open[self.token] = host.nid
            payload = self.token.to_bytes(8, "big")
            host.core.seal(self.clock(host.nid), payload, self.token)
            self._after(host)

    def do_rot(self) -> None:
        """Entries of one disk rot, as long as every one is whole on all the others."""
        if self.size < 3 or self.rots >= 3 or self.amnesiac:
            return
        host = self.hosts[self.members[0]]
        disk = host.disk
        entries = [entry.index for entry in disk.entries if entry.index > disk.snap.index]
        if entries:
            if host.core is not None:
                self.crash(host)
            self.rots += 1
            low = self.rng.choice(entries)
            disk.rotten |= {
                index for index in range(low, low + self.rng.randint(1, 4)) if index <= disk.last
            }

    def do_forget(self) -> None:
        """A disk loses the end of what was durable, and knows that it may have."""
        if self.size < 3 or self.amnesiac or self.rots:
            return
        host = self.hosts[self.members[-1]]
        if host.core is not None:
            self.crash(host)
        disk = host.disk
        self.amnesiac = host.nid
        keep = self.rng.randint(max(disk.snap.index + 1, disk.first), disk.last + 1)
        del disk.entries[keep - disk.first :]
        first = self.epoch.first_leader
        ballot = Ballot(self.epoch.number, 1 if first else 0, first)
        hard = disk.hard
        if self.rng.random() < 0.5:
            hard = Hard(ballot, Ballot(self.epoch.number, 0, 0), hard.commit)
        disk.hard = Hard(hard.promised, hard.accepted, min(hard.commit, disk.last), True)

    # The end

    def heal(self) -> None:
        """Nothing fails any more: everything must come to an end within some time."""
        self.cuts.clear()
        self.asleep.clear()
        for host in self.hosts.values():
            if host.core is None:
                self._boot(host.nid)
            assert host.core is not None
            host.core.space(True)
            self._after(host)
        end = self.now + 60 * self.settings.election
        half = self.now + 20 * self.settings.election
        while self.now < end:
            self._settle()
            if self.now > half:
                # A rotten tail that no other log has goes when something takes its place.
                half = end
                for host in self.up():
                    assert host.core is not None
                    self.token += 1
                    self.open[self.token] = host.nid
                    payload = self.token.to_bytes(8, "big")
                    host.core.propose(self.clock(host.nid), payload, self.token)
                    self._after(host)
            if self._is_quiet():
                break
            hosts = self.up()
            at = min(host.core.deadline - host.offset for host in hosts if host.core)
            self.now = max(self.now, at)
            for host in hosts:
                if host.core and self.clock(host.nid) >= host.core.deadline:
                    host.tick(self.clock(host.nid))
                    self._after(host)
        else:
            self.fail(
                "no progress: "
                + "; ".join(f"{host.nid} {host.core.status}" for host in self.up() if host.core)
            )

    def _settle(self) -> None:
        for _ in range(2000):
            if not self.net and not self.installs and not any(h.flying for h in self.up()):
                return
            net, self.net = self.net, []
            for src, dst, message in net:
                host = self.hosts[dst]
                assert host.core is not None
                host.core.receive(self.clock(dst), src, message)
                self._after(host)
            while self.installs:
                src, dst, index, state = self.installs.pop(0)
                host = self.hosts[dst]
                assert host.core is not None
                host.snapshots.setdefault(index, state)
                ballot = host.core.status.ballot
                host.core.snapshot_staged(self.clock(dst), src, ballot, self.snaps[index])
                self._after(host)
                sender = self.hosts[src]
                assert sender.core is not None
                sender.core.snapshot_sent(self.clock(src), dst, index, True)
                self._after(sender)
            for host in self.up():
                if host.flying:
                    host.persist(self.clock(host.nid), len(host.flying))
                    self._after(host)
        self.fail(f"they talk without end: {[str(each)[:200] for each in self.net[:8]]}")

    def _is_quiet(self) -> bool:
        statuses = [host.core.status for host in self.hosts.values() if host.core]
        leaders = [status for status in statuses if status.role == "leader"]
        if len(leaders) != 1 or self.open or self.reading:
            return False
        if not self.sealed and len(self.log) == 0 and not self.committed_tokens:
            pass
        if any(status.role not in ("leader", "follower") for status in statuses):
            return False
        lasts = {(status.last, status.commit, status.durable) for status in statuses}
        if len(lasts) != 1:
            return False
        return self.sealed > 0 or statuses[0].last == statuses[0].commit


def run(engine: str, seed: int, steps: int) -> World:
    """One walk; raises what it finds."""
    world = World(engine, seed)
    for _ in range(steps):
        world.step()
    world.heal()
    return world


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", choices=("raft", "paxos"), required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--from", dest="start", type=int, default=0)
    options = parser.parse_args()
    if options.seed is not None:
        world = run(options.engine, options.seed, options.steps or steps_of(options.seed))
        print(f"seed {options.seed}: {len(world.log)} entries, {len(world.leaders)} leaders")
        return
    end = time.monotonic() + options.seconds
    seed = options.start
    totals: dict[str, Any] = {"walks": 0, "entries": 0, "leaders": 0, "steps": 0, "bad": 0}
    while time.monotonic() < end:
        try:
            world = run(options.engine, seed, options.steps or steps_of(seed))
        except Exception as error:  # the seed is what counts
            totals["bad"] += 1
            print(f"seed {seed}: {type(error).__name__}: {str(error)[:300]}", flush=True)
            if totals["bad"] >= 10:
                break
        else:
            totals["entries"] += len(world.log)
            totals["leaders"] += len(world.leaders)
            totals["steps"] += world.steps
        totals["walks"] += 1
        seed += 1
    print(totals)


def steps_of(seed: int) -> int:
    """Mostly short, some long."""
    return (200, 600, 600, 1500)[zlib.crc32(str(seed).encode()) % 4]


if __name__ == "__main__":
    main()
