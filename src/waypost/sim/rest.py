"""Whether a cluster has come to rest: one leader, every call answered, all applied everywhere.

Safety is what must be true at every step (``oracle``); this is what must become true in the end.
"""

from collections.abc import Iterable

from waypost.sim.clients import Client
from waypost.sim.machine import Machine
from waypost.sim.oracle import Oracle


def leaders(machines: Iterable[Machine], oracle: Oracle) -> int:
    """How many of them lead in the newest epoch."""
    number = oracle.epoch.number
    return sum(
        machine.process.member.status.role == "leader"
        and machine.process.member.status.epoch.number == number
        for machine in machines
        if machine.process is not None
    )


def unrest(machines: list[Machine], clients: Iterable[Client], oracle: Oracle) -> str:
    """What is not at rest yet; empty if everything is."""
    commit, epoch = oracle.commit, oracle.epoch
    for client in clients:
        if not client.is_idle:
            return f"client {client.id} waits for an answer"
    leading = leaders(machines, oracle)
    if leading != 1:
        return f"{leading} nodes lead"
    for machine in machines:
        process = machine.process
        if process is None:
            if machine.is_gone:
                continue
            return f"{machine.name} does not run"
        status = process.member.status
        if process.applied < commit:
            return f"{machine.name} has applied {process.applied} of {commit}"
        if status.epoch.number != epoch.number or not status.started:
            return f"{machine.name} is not in epoch {epoch.number}"
        if process.life.asked:
            return f"{machine.name} owes {len(process.life.asked)} answers"
    return ""
