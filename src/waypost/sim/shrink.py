"""Make a failing plan small: what remains is what the failure needs.

Faults and calls are left out as long as the same invariant still fails (delta debugging); before
that, everything of the setting that need not be as it is becomes plain.  Chance on the way is tied
to the seed and not to the plan, so a smaller plan may take another course: whatever still fails is
kept, however it fails.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from waypost.consensus.core import Ns
from waypost.sim.checkers.minimise import ddmin
from waypost.sim.plan import MS, Plan, Setting
from waypost.sim.run import Outcome, run_plan

TRIES: Final = 120


def shrink(plan: Plan, invariant: str, *, tries: int = TRIES) -> tuple[Plan, Outcome]:
    """Find a smaller plan that fails as this one does, and what becomes of it."""
    best: list[tuple[Plan, Outcome]] = []
    left = [tries]

    def fails(candidate: Plan) -> bool:
        if left[0] <= 0:
            return False
        left[0] -= 1
        outcome = run_plan(candidate)
        if outcome.failure is None or outcome.failure.invariant != invariant:
            return False
        best[:] = [(candidate, outcome)]
        return True

    assert fails(plan), "nothing to shrink: the plan does not fail"
    fails(_until(plan, best[0][1].virtual_ns))
    for simpler in _simpler(plan.setting):
        fails(_with(best[0][0], setting=simpler(best[0][0].setting)))
    for part in ("tasks", "faults", "tasks"):
        _leave_out(best[0][0], part, fails)
    return best[0]


def _leave_out(plan: Plan, part: str, fails: Callable[[Plan], bool]) -> None:
    items: list[Any] = list(getattr(plan, part))
    if items:
        ddmin(items, lambda some: fails(_with(plan, **{part: tuple(some)})))


def _until(plan: Plan, end: Ns) -> Plan:
    """Without what was still to come when it failed."""
    faults = tuple(fault for fault in plan.faults if fault.at <= end)
    return _with(plan, faults=faults, tasks=tuple(task for task in plan.tasks if task.at <= end))


def _with(plan: Plan, **changes: object) -> Plan:
    return msgspec.structs.replace(plan, **changes)


def _simpler(setting: Setting) -> list[Callable[[Setting], Setting]]:
    """What may be made plain, one after the other."""
    machines = setting.members + setting.spares
    zeros = (0,) * machines
    plain: list[dict[str, object]] = [
        {"real_wal": False, "encodes": False},
        {"loss_ppm": 0, "repeat_ppm": 0},
        {"tail_ppm": 0, "in_order": True, "delay_max": MS},
        {"drift_ppm": zeros, "offset": zeros, "lag": zeros},
        {"sync_max": MS},
        {"snapshot_every": 1_000_000},
        {"heals": "all"},
    ]
    return [partial(_changed, change) for change in plain]


def _changed(change: dict[str, object], setting: Setting) -> Setting:
    return msgspec.structs.replace(setting, **change)
