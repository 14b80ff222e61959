"""One run from its seed to its verdict, and the verdict of what the clients saw."""

import traceback
from typing import Final

import msgspec

from waypost.errors import WaypostError
from waypost.sim.checkers.history import Operation, Verdict
from waypost.sim.checkers.models import Registry
from waypost.sim.checkers.sessions import check_monotonic, check_once, check_staleness
from waypost.sim.checkers.wgl import check_linearizable
from waypost.sim.checkers.witness import check_witness
from waypost.sim.plan import MS, Engine, Plan, draw_plan
from waypost.sim.trace import Line
from waypost.sim.violation import Violation
from waypost.sim.world import World

REFEREE_EVERY: Final = 16
"""One seed in so many is also checked by the checker that trusts no index."""
REFEREE_STEPS: Final = 50_000
DRIFT_SHARE: Final = 20
"""How old an answer may be is measured by a clock that may be wrong by one part in so many."""


class Failure(msgspec.Struct, frozen=True):
    """What was not as it must be."""

    invariant: str
    what: str
    where: str = ""
    """Of an exception: where it was raised."""
    verdict: Verdict | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What became of one run."""

    seed: int
    engine: Engine
    steps: int
    virtual_ns: int
    rest_ns: int
    """How long it took to come to rest; 0 if it did not."""
    trace: str
    """Hash of all that happened."""
    marks: dict[str, int]
    failure: Failure | None = None
    lines: tuple[Line, ...] = ()
    """The story, of a run that failed or that was to be told."""
    history: tuple[Operation, ...] = ()


def run_seed(seed: int, engine: Engine) -> Outcome:
    """Draw the plan of a seed, and run it."""
    return run_plan(draw_plan(seed, engine))


def run_plan(plan: Plan, *, details: bool = False) -> Outcome:
    """Run a plan."""
    world = World(plan, details=details)
    failure: Failure | None = None
    history: list[Operation] = []
    try:
        world.run()
    except Violation as violation:
        failure = Failure(violation.invariant, violation.what)
    except (AssertionError, WaypostError, LookupError, TypeError, ValueError) as error:
        # Whatever a node raises is a failure of the run: nothing here may end a process but the
        # faults.
        failure = Failure(f"raised {type(error).__name__}", str(error), traceback.format_exc())
    else:
        history = world.history()
        failure = _check_history(plan, world, history)
    if failure is not None and not history:
        history = list(world.notebook.operations)
    tells = failure is not None or details
    return Outcome(
        seed=plan.seed,
        engine=plan.setting.engine,
        steps=world.trace.steps,
        virtual_ns=world.now,
        rest_ns=world.rest,
        trace=world.trace.digest,
        marks=world.marks.counts,
        failure=failure,
        lines=tuple(world.trace.lines) if tells else (),
        history=tuple(history) if tells else (),
    )


def _check_history(plan: Plan, world: World, history: list[Operation]) -> Failure | None:
    """What every client was told must fit together."""
    model = Registry()
    has_clock_faults = any(fault.kind == "clock_stop" for fault in plan.faults)
    verdicts = [
        ("linearizable", check_witness(model, history)),
        ("monotonic", check_monotonic(history)),
        ("once", check_once(world.oracle.effects.once)),
    ]
    if not has_clock_faults:
        reads = [op for op in history if op.kind == "resolve" and op.stale is not None]
        slack = 500 * MS // DRIFT_SHARE
        verdicts.append(("staleness", check_staleness(history, reads, slack=slack)))
    if plan.seed % REFEREE_EVERY == 0:
        exact = [op for op in history if op.stale == 0]
        verdicts.append(("linearizable", check_linearizable(model, exact, steps_max=REFEREE_STEPS)))
    for name, verdict in verdicts:
        if verdict.outcome == "unknown":
            world.marks.hit("checker undecided")
        elif not verdict.is_ok:
            return Failure(name, verdict.why, verdict=verdict)
    return None
