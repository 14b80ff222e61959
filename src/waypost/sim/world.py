"""The world: virtual time, and everything that happens in it, in one order.

A run has two phases.  In the first, faults strike and nothing must ever be untrue.  Then they stop:
everything is healed, or a majority and no more, and the cluster must come to rest in time: one
leader, every call answered, equal logs, equal states.

Always true: events happen in the order of their times, and at equal times in that in which they
were planned; nothing here depends on a real clock, on the order of a set, or on ``hash``.
"""

import heapq
from collections.abc import Callable, Iterable
from functools import partial

from waypost.catalog.snapshots import dump
from waypost.commands import Origin, decode_batch
from waypost.consensus.core import FOREVER, KIND_BATCH, KIND_SEAL, Index, Nid, Ns
from waypost.consensus.epoch import Epoch
from waypost.consensus.patience import LONGEST
from waypost.consensus.settings import Settings
from waypost.replica.member import MemberStatus
from waypost.sim.checkers.history import Operation
from waypost.sim.clients import Client, Notebook
from waypost.sim.cores import core_maker
from waypost.sim.faults import may_lose, strike
from waypost.sim.machine import CLUSTER, Machine
from waypost.sim.marks import Marks
from waypost.sim.messages import Letter, Parcel, Receipt, Reply, Request
from waypost.sim.network import Link, Network
from waypost.sim.operator import EVERY, Operator
from waypost.sim.oracle import Oracle
from waypost.sim.plan import MS, Plan, Task, stream
from waypost.sim.rest import leaders, unrest
from waypost.sim.trace import Trace
from waypost.sim.violation import Violation

Call = Callable[[Ns], None]

ELECTION: Ns = 150 * MS
# What is borne of silence may have grown with the faults; who stands draws up to twice that.
LEADER_WITHIN: Ns = 4 * LONGEST * ELECTION
REST_WITHIN: Ns = 6 * LONGEST * ELECTION
LOOK_EVERY: Ns = 10 * MS
STEPS_MAX = 200_000
"""A run that takes more is going in circles."""


class World:
    """One run."""

    def __init__(self, plan: Plan, *, details: bool = False) -> None:
        setting = plan.setting
        seed = plan.seed
        self.now: Ns = 0
        self.plan = plan
        self.marks = Marks()
        self.trace = Trace(details=details)
        self.notebook = Notebook()
        self.rest: Ns = 0
        """How long it took to come to rest after the faults stopped."""
        self._events: list[tuple[Ns, int, Call]] = []
        self._planned = 0
        self._endings: dict[int, Call] = {}
        self._homes: dict[Nid, int] = {}
        self._rng = stream(seed, "world")
        self._is_healed = False
        # What a node says of its freshness rests on clocks that at most drift.
        self._clocks_keep_time = all(fault.kind != "clock_stop" for fault in plan.faults)
        self._core: list[Machine] = []
        self.network = Network(setting, stream(seed, "network"), self._deliver)
        settings = Settings(
            election=ELECTION,
            heartbeat=setting.heartbeat,
            leases=setting.leases,
            trailing_entries=setting.trailing,
            window_bytes=setting.window_bytes,
            append_bytes_max=setting.append_bytes,
        )
        count = setting.members + setting.spares
        nids = [1 + self._rng.randrange((1 << 32) - 1) for _ in range(count)]
        members = sorted(nids[: setting.members])
        peers = {nid: Machine.peer_of(nids.index(nid)) for nid in members}
        self.genesis = Epoch(CLUSTER, 1, setting.engine, peers, 1, members[0])
        self.oracle = Oracle(self.genesis)
        self.machines = [
            Machine(
                n,
                setting,
                stream(seed, f"machine {n}"),
                self,
                self.oracle,
                self.marks,
                settings,
                core_maker,
            )
            for n in range(count)
        ]
        for machine, nid in zip(self.machines, nids, strict=True):
            self._homes[nid] = machine.number
            machine.become(nid)
        self.operator = Operator(self.machines, self.oracle, self.marks, stream(seed, "operator"))
        self.clients = [
            Client(
                n,
                setting,
                [task for task in plan.tasks if task.client == n],
                stream(seed, f"client {n}"),
                self,
                self.marks,
                self.notebook,
            )
            for n in range(setting.clients)
        ]

    # Time

    def call(self, at: Ns, what: Call) -> None:
        """Do something later."""
        self._planned += 1
        heapq.heappush(self._events, (at, self._planned, what))

    def until_healed(self, at: Ns, what: Call) -> None:
        """Do something later, or when the faults stop, whichever comes first."""
        self._planned += 1
        number = self._planned
        self._endings[number] = what

        def end(now: Ns) -> None:
            if self._endings.pop(number, None) is not None:
                what(now)

        self.call(at, end)

    def run(self) -> None:
        """Go through both phases; raises what a node raised, or a ``Violation``."""
        for machine in self.machines:
            self.start(machine)
        for machine in self.machines:
            if machine.nid in self.genesis.members and machine.process is not None:
                local = machine.clock.read(0)
                machine.process.at(local).found(local, self.genesis)
                machine.settle()
        for client in self.clients:
            client.start()
        for fault in self.plan.faults:
            self.call(fault.at, lambda _, fault=fault: strike(self, fault))  # type: ignore[misc]
        self.call(EVERY, self._operate)
        self.call(self.plan.horizon, self._heal)
        events = self._events
        while events and not (self._is_healed and self.rest):
            self.now, _, what = heapq.heappop(events)
            what(self.now)
            if self.trace.steps > STEPS_MAX:
                raise Violation("rest", f"more than {STEPS_MAX} steps")
        self._compare()

    # The network

    def post(self, source: int, target: Nid, parcel: object) -> None:
        """Send to wherever a node lives."""
        home = self._homes.get(target)
        if home is not None:
            self.network.send(self.now, source, home, parcel)

    def send(self, client: int, machine: int, request: Request) -> None:
        """A client sends a request."""
        self.network.send(self.now, len(self.machines) + client, machine, request)

    def answer(self, machine: int, reply: Reply) -> None:
        """A node answers a client."""
        client = len(self.machines) + reply.client % 100
        self.network.send(self.now, machine, client, reply)

    def _deliver(self, at: Ns, source: int, target: int, parcel: object) -> None:  # noqa: ARG002
        def arrive(now: Ns) -> None:
            self.trace.step(now, target, parcel)
            if isinstance(parcel, Reply):
                self.clients[parcel.client % 100].reply(now, parcel)
            else:
                assert isinstance(parcel, Letter | Parcel | Receipt | Request)
                self.machines[target].receive(now, parcel)

        self.call(at, arrive)

    def machine_of(self, nid: Nid) -> int | None:
        """Where a node lives."""
        return self._homes.get(nid)

    # The machines

    def new_node(self, machine: Machine) -> None:
        """Give a machine an empty disk and a new id."""
        self._homes.pop(machine.nid)
        nid = 1 + self._rng.randrange((1 << 32) - 1)
        self._homes[nid] = machine.number
        machine.become(nid)
        machine.is_gone = False

    def start(self, machine: Machine) -> None:
        """Start a machine; one that cannot start from its disk becomes a new node."""
        if machine.is_up or machine.is_gone:
            return
        self.story(f"{machine.name} starts as node {machine.nid}")
        if not machine.start():
            if not may_lose(self, machine):
                raise Violation("recovery", f"{machine.name} cannot start from its disk")
            self.oracle.lost(machine.nid)
            self.new_node(machine)
            machine.start()
        for other in self.machines:
            if other is not machine:
                self.meet_again(((machine.number, other.number), (other.number, machine.number)))

    def meet_again(self, links: Iterable[Link]) -> None:
        """Connections come back, where nothing else cuts them."""
        for here, there in links:
            if self.network.is_cut(here, there) or self.network.is_cut(there, here):
                continue
            machine, other = self.machines[here], self.machines[there]

            def meet(now: Ns, machine: Machine = machine, other: Machine = other) -> None:
                if other.is_up:
                    machine.meet(now, other.nid)

            self.call(self.now + 2 * MS, meet)

    def ended(self, machine: Machine) -> None:
        """The machine of a process that ended refuses who connects: most notice, not all."""
        there = machine.number
        seeing = [other.number for other in self.machines if self._rng.random() < 0.8]
        self.refuse([(here, there) for here in seeing if here != there])

    def refuse(self, links: Iterable[Link]) -> None:
        """Connections are refused, by the machine or by something before it: soon it is noticed."""
        for here, there in links:
            if self.network.is_cut(here, there) or self.network.is_cut(there, here):
                continue
            self.marks.hit("connection refused")
            machine, nid = self.machines[here], self.machines[there].nid
            miss = partial(machine.meet, nid=nid, is_gone=True)
            self.call(self.now + self._rng.randrange(1, 4 * MS), miss)

    def retired(self, machine: Machine) -> None:
        """A removed node ends; its machine comes back as another one."""
        self.story(f"{machine.name} is not needed any more, and ends")
        self.marks.hit("removed node ended")
        machine.end(power=False)
        machine.is_gone = True

        def return_as_another(_: Ns) -> None:
            if machine.is_gone and may_lose(self, machine):
                self.oracle.lost(machine.nid)
                self.new_node(machine)
                self.start(machine)

        self.call(self.now + 100 * MS, return_as_another)

    def told(self, machine: Machine, status: MemberStatus) -> None:
        """A node's role, leader or epoch changed."""
        self.marks.hit(f"{status.epoch.engine} {status.role}")
        self.story(
            f"{machine.name} is {status.role} in {_ballot(status)}, commit {status.commit}, epoch "
            f"{status.epoch.number}{'' if status.started else ' (not started)'}"
        )

    def story(self, what: str) -> None:
        """Something worth telling happened."""
        self.trace.tell(self.now, what)

    def _operate(self, now: Ns) -> None:
        self.operator.look(now)
        if self._clocks_keep_time:
            for machine in self.machines:
                machine.claim_freshness()
        self.call(now + EVERY, self._operate)

    # The second phase

    def _heal(self, now: Ns) -> None:
        """The faults stop."""
        self._is_healed = True
        self._core = self._choose_core()
        chosen = " ".join(machine.name for machine in self._core)
        self.story(f"the faults stop; {chosen} must come to rest")
        self.network.calm()
        self.operator.drop_wishes()
        for machine in self.machines:
            machine.calm()
        endings, self._endings = list(self._endings.values()), {}
        for end in endings:
            end(now)
        for machine in self.machines:
            if machine in self._core:
                self.start(machine)
        if len(self._core) < len(self.machines):
            self._trouble_the_others()
        links = [(a.number, b.number) for a in self._core for b in self._core if a is not b]
        self.meet_again(links)
        for client in self.clients:
            client.end()
        count = self.plan.setting.clients
        probe = Client(
            count,
            self.plan.setting,
            [Task(now + MS, count, "register", 0, 0, self._core[0].number)],
            stream(self.plan.seed, "probe"),
            self,
            self.marks,
            self.notebook,
        )
        self.clients.append(probe)
        probe.start()
        self.call(now + LOOK_EVERY, self._look)

    def _is_sealing(self) -> bool:
        """Whether a Seal may yet commit: who is spared now may be all that its epoch has."""
        commit = self.oracle.commit
        return any(
            entry.kind == KIND_SEAL and entry.index > commit
            for machine in self.machines
            for entry in machine.drive.newest.entries
        )

    def _choose_core(self) -> list[Machine]:
        """The machines that must come to rest: all, or of the newest epoch a bare majority."""
        oracle, epoch = self.oracle, self.oracle.epoch
        living = [m for m in self.machines if not m.is_gone]
        if self.plan.setting.heals == "all" or oracle.commit < epoch.first or self._is_sealing():
            return living
        members = [m for m in living if m.nid in epoch.members and not oracle.nodes[m.nid].has_lost]
        if self._rng.random() < 0.6:  # whoever leads now is to be replaced
            members.sort(key=lambda machine: machine is self.operator.leader())
        core = members[: len(epoch.members) // 2 + 1]
        return core if 2 * len(core) > len(epoch.members) else living

    def _trouble_the_others(self) -> None:
        """Who is not of the core is down, or hopeless in some other way, for ever."""
        self.marks.hit("heals a core only")
        for machine in self.machines:
            if machine in self._core:
                continue
            trouble = self._rng.choice(("down", "down", "stalled", "one way", "one way"))
            self.story(f"{machine.name} stays {trouble}")
            if trouble == "down":
                machine.end(power=False)
                machine.is_gone = True
                continue
            self.start(machine)
            if trouble == "stalled":
                machine.stalled_until = FOREVER
                continue
            for other in self._core:
                # Whom it hears cannot hear it: so it may disturb, and is of no use.
                here, there = machine.number, other.number
                links = [(here, there), (there, here)]
                self.network.cut_links(self._rng.choice((links, links[:1], links[1:])))

    def _look(self, now: Ns) -> None:
        """See whether the cluster has come to rest."""
        since = now - self.plan.horizon
        why = unrest(self._core, self.clients, self.oracle)
        if not why:
            self.rest = since
            return
        leading = leaders(self._core, self.oracle)
        if since > LEADER_WITHIN and leading != 1:
            raise Violation(
                "rest", f"{since // MS} ms after the faults stopped, {leading} nodes lead"
            )
        if since > REST_WITHIN:
            raise Violation("rest", f"{since // MS} ms after the faults stopped: {why}")
        self.call(now + LOOK_EVERY, self._look)

    # The end

    def _compare(self) -> None:
        """At rest, equal logs have given equal states."""
        for machine in self._core:
            process = machine.process
            if process is not None and process.applied == self.oracle.commit:
                data = b"".join(dump(process.catalog))
                self.oracle.effects.state(machine.nid, process.applied, data)
        self.marks.hit("entries committed", self.oracle.commit)
        self.marks.hit("epochs begun", self.oracle.epoch.number - 1)
        self.trace.tell(self.now, f"at rest: {self.oracle.commit} entries")

    def history(self) -> list[Operation]:
        """What the clients saw; writes of unknown fate are where the log has them."""
        places: dict[Origin, Index] = {}
        for entry in self.oracle.shadow:
            if entry.kind == KIND_BATCH and entry.payload:
                for origin in decode_batch(entry.payload).origins:
                    if origin is not None:
                        places.setdefault(origin, entry.index)
        return self.notebook.settled(places)


def _ballot(status: MemberStatus) -> str:
    ballot = status.ballot
    return f"({ballot.epoch},{ballot.round},{ballot.node})"
