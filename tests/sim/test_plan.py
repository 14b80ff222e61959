from collections import Counter
from typing import get_args

import pytest

from waypost.sim.plan import ENGINES, LEADER, MS, FaultKind, draw_plan


def test_the_same_seed_is_the_same_plan() -> None:
    assert draw_plan(5, "raft") == draw_plan(5, "raft")
    assert draw_plan(5, "raft") != draw_plan(6, "raft")


def test_both_engines_meet_the_same_faults_and_the_same_work() -> None:
    for seed in range(20):
        raft, paxos = (draw_plan(seed, engine) for engine in ENGINES)
        assert (raft.faults, raft.tasks, raft.horizon) == (paxos.faults, paxos.tasks, paxos.horizon)


@pytest.mark.parametrize("seed", range(50))
def test_a_plan_names_only_machines_and_clients_that_there_are(seed: int) -> None:
    plan = draw_plan(seed, "raft")
    setting = plan.setting
    machines = range(setting.members + setting.spares)
    assert len(setting.drift_ppm) == len(setting.offset) == len(setting.lag) == len(machines)
    for fault in plan.faults:
        assert fault.machine == LEADER or fault.machine in machines
        assert fault.other in machines
        assert 0 < fault.at < plan.horizon
        assert 5 * MS <= fault.span <= 1_300 * MS
    for task in plan.tasks:
        assert task.client in range(setting.clients)
        assert task.machine in machines
    assert list(plan.faults) == sorted(plan.faults, key=lambda fault: fault.at)


def test_runs_with_leases_have_clocks_that_only_drift() -> None:
    plans = [draw_plan(seed, "raft") for seed in range(200)]
    leased = [plan for plan in plans if plan.setting.leases]
    assert len(leased) > 20
    assert not any(f.kind.startswith("clock") for plan in leased for f in plan.faults)


def test_every_kind_of_fault_is_drawn_and_no_seed_has_all() -> None:
    kinds = [Counter(f.kind for f in draw_plan(seed, "raft").faults) for seed in range(300)]
    total = Counter[str]()
    for some in kinds:
        total.update(some)
        assert len(some) < 20
    assert set(total) == set(get_args(FaultKind))
