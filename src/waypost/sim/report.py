"""What is told of a run: the story of a failure in words, and as a picture."""

from waypost.sim.checkers.history import text as operation_text
from waypost.sim.checkers.timeline import Mark, draw
from waypost.sim.plan import MS, Plan
from waypost.sim.run import Outcome
from waypost.sim.trace import text

LINES_MAX = 400


def story(plan: Plan, outcome: Outcome) -> str:
    """What happened, for people."""
    setting, failure = plan.setting, outcome.failure
    head = (
        f"seed {plan.seed}, {setting.engine}: {setting.members} members, {setting.spares} spares, "
        f"{len(plan.faults)} faults, {len(plan.tasks)} calls, the faults stop at "
        f"{plan.horizon // MS} ms"
    )
    parts = [
        head,
        "",
        text([line for line in outcome.lines if not line.is_detail][-LINES_MAX:]),
    ]
    if failure is not None:
        parts += ["", f"{outcome.virtual_ns / 1e6:10.3f} ms  {failure.invariant}: {failure.what}"]
        if failure.verdict is not None:
            parts += [f"               {operation_text(op)}" for op in failure.verdict.culprits]
        if failure.where:
            parts += ["", failure.where.rstrip()]
    return "\n".join(parts)


def picture(plan: Plan, outcome: Outcome) -> str:
    """The same as a page of its own: who did what when, and what happened meanwhile."""
    failure = outcome.failure
    what = "at rest" if failure is None else f"{failure.invariant}: {failure.what}"
    return draw(
        f"seed {plan.seed}, {plan.setting.engine}: {what}",
        outcome.history,
        None if failure is None else failure.verdict,
        [Mark(line.at, line.what) for line in outcome.lines if not line.is_detail],
    )
