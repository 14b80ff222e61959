import pytest

from waypost.sim.campaign import Summary, run_all
from waypost.sim.plan import ENGINES, Engine, draw_plan
from waypost.sim.report import story
from waypost.sim.run import run_plan


@pytest.mark.parametrize("engine", ENGINES)
def test_a_few_seeds_come_to_rest(engine: Engine) -> None:
    summary = Summary(engine)
    for outcome in run_all(engine, range(1_000_000, 1_000_012), 1):
        assert outcome.failure is None, story(draw_plan(outcome.seed, engine), outcome)
        summary.add(outcome)
    assert summary.seeds == 12
    assert summary.marks["entries committed"] > 100


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_three_hundred_seeds_hold(engine: Engine) -> None:
    summary = Summary(engine)
    for outcome in run_all(engine, range(300), 1):
        assert outcome.failure is None, story(draw_plan(outcome.seed, engine), outcome)
        summary.add(outcome)
    for mark in REACHED:
        assert summary.marks.get(mark), f"{mark}: never reached in 300 seeds"


REACHED = (
    "power lost",
    "process killed",
    "ended while writing",
    "sync failed",
    "snapshot installed",
    "proposal unknown",
    "proposal refused",
    "client tries again",
    "client gave up",
    "change committed",
    "epochs begun",
    "removed node ended",
    "heals a core only",
    "fault rot",
    "fault wipe",
    "fault clock_stop",
    "stale read refused",
    "read_linear done",
    "set_key done",
    "cas_key done",
    "write no",
    "check done",
    "hold done",
    "transact done",
)
"""Situations that 300 seeds must come to, or they prove little."""


@pytest.mark.parametrize("seed", [2, 7])
def test_a_run_on_two_processes_is_the_run_on_one(seed: int) -> None:
    alone = [outcome.trace for outcome in run_all("raft", range(seed, seed + 2), 1)]
    together = [outcome.trace for outcome in run_all("raft", range(seed, seed + 2), 2)]
    assert sorted(alone) == sorted(together)


def test_a_story_tells_what_happened() -> None:
    plan = draw_plan(4, "raft")
    told = story(plan, run_plan(plan, details=True))
    assert "the faults stop" in told
    assert "starts as node" in told
