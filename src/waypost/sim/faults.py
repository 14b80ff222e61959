"""What each kind of fault does to the world, and how it ends.

Always true (the *atlas*): however many disks a plan would damage, those that stay whole are a
majority of every epoch that still matters; beyond that nobody promises anything.
"""

from collections.abc import Callable
from typing import Protocol

from waypost.consensus.core import Ns
from waypost.sim.machine import Machine
from waypost.sim.marks import Marks
from waypost.sim.network import Link, Network
from waypost.sim.operator import Operator, Wish
from waypost.sim.oracle import Oracle
from waypost.sim.plan import LEADER, MS, Fault


class Stage(Protocol):
    """The world, as faults see it."""

    now: Ns
    machines: list[Machine]
    network: Network
    oracle: Oracle
    operator: Operator
    marks: Marks

    def call(self, at: Ns, what: Callable[[Ns], None]) -> None:
        """Do something later."""
        ...

    def until_healed(self, at: Ns, what: Callable[[Ns], None]) -> None:
        """Do something later, or when the faults stop, whichever comes first."""
        ...

    def story(self, what: str) -> None:
        """Something worth telling happened."""
        ...

    def new_node(self, machine: Machine) -> None:
        """Give a machine an empty disk and a new id."""
        ...

    def refuse(self, links: tuple[Link, ...]) -> None:
        """Connections are refused."""
        ...

    def meet_again(self, links: tuple[Link, ...]) -> None:
        """Connections come back."""
        ...


def strike(stage: Stage, fault: Fault) -> None:
    """Let a fault happen now."""
    machine = _machine(stage, fault)
    if machine is None:
        stage.marks.hit("fault without a leader")
        return
    other = stage.machines[fault.other]
    if other is machine:
        other = stage.machines[(machine.number + 1) % len(stage.machines)]
    stage.marks.hit(f"fault {fault.kind}")
    until = stage.now + fault.span
    match fault.kind:
        case "crash" | "kill" | "pause" | "stall" | "disk_error" | "full" | "rot" | "wipe":
            _strike_machine(stage, fault, machine, until)
        case "clock_jump" | "clock_stop":
            _strike_clock(stage, fault, machine, until)
        case "transfer" | "switch" | "grow" | "shrink" | "swap" | "snapshot":
            _operate(stage, fault, machine, other)
        case _:
            _strike_network(stage, fault, machine, other, until)


def _machine(stage: Stage, fault: Fault) -> Machine | None:
    return stage.operator.leader() if fault.machine == LEADER else stage.machines[fault.machine]


def _strike_machine(stage: Stage, fault: Fault, machine: Machine, until: Ns) -> None:
    name = machine.name
    ms = fault.span // MS
    match fault.kind:
        case "crash" | "kill":
            stage.story(f"{name}: {'power lost' if fault.kind == 'crash' else 'killed'}, {ms} ms")
            machine.end(power=fault.kind == "crash")
            _start_later(stage, machine, until)
        case "pause":
            stage.story(f"{name}: stands still, {ms} ms")
            machine.pause()
            stage.until_healed(until, machine.resume)
        case "stall":
            stage.story(f"{name}: its disk stalls, {ms} ms")
            machine.stalled_until = max(machine.stalled_until, until)
        case "disk_error":
            stage.story(f"{name}: its next sync fails")
            machine.is_sync_to_fail = True
            _start_later(stage, machine, until)
        case "full":
            stage.story(f"{name}: its disk is full, {ms} ms")
            machine.space(False)
            stage.until_healed(until, lambda _: machine.space(True))
        case "rot" if may_lose(stage, machine):
            machine.end(power=True)
            stage.oracle.lost(machine.nid)
            stage.story(f"{name}: power lost, {machine.drive.rot() or 'nothing to rot'}, {ms} ms")
            _start_later(stage, machine, until)
        case "wipe" if may_lose(stage, machine):
            machine.end(power=True)
            stage.oracle.lost(machine.nid)
            stage.new_node(machine)
            stage.story(f"{name}: gets an empty disk, is node {machine.nid} now, {ms} ms")
            _start_later(stage, machine, until)
        case _:
            stage.marks.hit("spared by the atlas")


def _strike_clock(stage: Stage, fault: Fault, machine: Machine, until: Ns) -> None:
    if fault.kind == "clock_jump":
        stage.story(f"{machine.name}: its clock jumps by {fault.amount} ms")
        machine.clock.jump(stage.now, fault.amount * MS)
        machine.clock_changed()
        return
    stage.story(f"{machine.name}: its clock stands still, {fault.span // MS} ms")
    machine.clock.stop(stage.now)

    def go(now: Ns) -> None:
        machine.clock.go(now)
        machine.clock_changed()

    stage.until_healed(until, go)


def _strike_network(
    stage: Stage, fault: Fault, machine: Machine, other: Machine, until: Ns
) -> None:
    network, here, there = stage.network, machine.number, other.number
    rest = [each.number for each in stage.machines if each is not machine]
    both: tuple[Link, ...] = ((here, there), (there, here))
    what = f"{fault.span // MS} ms"
    if fault.kind in ("clog", "slow"):
        stage.story(f"m{here} to m{there}: {fault.kind}, {what}")
        if fault.kind == "clog":
            stage.until_healed(until, network.clog((here, there)))
        else:
            stage.until_healed(until, network.slow_down((here, there), fault.amount * MS))
        return
    links: tuple[Link, ...]
    match fault.kind:
        case "isolate":
            links = tuple(link for n in rest for link in ((here, n), (n, here)))
        case "deaf":
            links = tuple((n, here) for n in rest)
        case "mute":
            links = tuple((here, n) for n in rest)
        case "cut":
            links = both
        case "cut_one_way":
            links = ((here, there),)
        case "maroon":
            members = [m.number for m in stage.machines if m.nid in stage.oracle.epoch.members]
            company = [n for n in members if n != here]
            few = company[fault.amount % max(1, len(company)) :][: (len(members) - 1) // 2 - 1]
            island = [here, *(few if fault.amount % 3 else ())]
            shore = [n for n in range(len(stage.machines)) if n not in island]
            links = tuple(link for a in island for b in shore for link in ((a, b), (b, a)))
        case "bridge":
            links = tuple((a, b) for a in rest for b in rest if a != b)
        case _:
            side = [n for n in range(len(stage.machines)) if fault.amount >> n & 1]
            far = [n for n in range(len(stage.machines)) if n not in side]
            links = tuple(link for a in side for b in far for link in ((a, b), (b, a)))
    stage.story(f"m{here}, m{there}: {fault.kind}, {what}")
    if fault.amount % 2:
        stage.refuse(links)  # by a firewall: whoever it cuts off takes the others for ended
    join = network.cut_links(links)

    def heal(now: Ns) -> None:
        join(now)
        stage.meet_again(links)

    stage.until_healed(until, heal)


def _operate(stage: Stage, fault: Fault, machine: Machine, other: Machine) -> None:
    match fault.kind:
        case "transfer":
            leader = stage.operator.leader()
            if leader is None or leader.process is None or leader.is_paused:
                return
            target = machine if machine is not leader else other
            if target.nid not in stage.oracle.epoch.members:
                return
            stage.story(f"{leader.name}: is asked to hand over to {target.name}")
            local = leader.clock.read(stage.now)
            leader.process.at(local).transfer(local, target.nid)
            leader.settle()
        case "snapshot":
            if machine.process is not None and not machine.is_paused and machine.process.snapshot():
                machine.settle()
        case "switch" | "grow" | "shrink" | "swap":
            stage.story(f"the operator wants to {fault.kind}")
            stage.operator.wish(Wish(fault.kind, fault.other + 1))
        case _:
            raise AssertionError(f"no operator does {fault.kind!r}")


def _start_later(stage: Stage, machine: Machine, at: Ns) -> None:
    def start(_: Ns) -> None:
        if not machine.is_up and not machine.is_gone:
            machine.start()

    stage.until_healed(at, start)


def may_lose(stage: Stage, machine: Machine) -> bool:
    """Whether this disk may be damaged, and enough whole ones are left."""
    oracle = stage.oracle
    if machine.nid not in oracle.nodes:
        return True
    number = oracle.epoch.number
    while True:
        epoch = oracle.epochs[number]
        if machine.nid in epoch.members:
            lost = sum(
                nid == machine.nid or nid not in oracle.nodes or oracle.nodes[nid].has_lost
                for nid in epoch.members
            )
            if 2 * lost >= len(epoch.members):
                return False
        if oracle.commit >= epoch.first or number == min(oracle.epochs):
            return True
        number -= 1
