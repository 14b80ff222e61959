"""Real faults on real processes, under load: nothing is lost, nothing is stale, nothing fails."""

import asyncio
import sys
from pathlib import Path

import msgspec
import pytest

from tests.processes.faults import Fault, Report, run_rounds
from tests.processes.namespaces import enter
from tests.processes.steady_load import judge
from waypost.sim.checkers.history import Operation

GAP_MS_MAX = 3_000
"""For a machine that does much else; ``python -m tests.processes.faults`` measures."""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="stops processes, and cuts their networks"
)


def check(report: Report) -> None:
    assert report.verdict == "ok"
    assert report.failures == []
    assert report.answered >= report.sent > 0
    assert all(gaps.worst < GAP_MS_MAX for gaps in report.gaps.values()), report.gaps
    assert report.kinds.keys() == {
        "register linearizable",
        "deregister linearizable",
        "resolve linearizable",
        "resolve",
    }


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["raft", "paxos"])
def test_killed_stopped_wiped_and_deposed_leaders_cost_nobody_anything_but_a_moment(
    engine: str, tmp_path: Path
) -> None:
    faults: list[Fault] = ["kill", "transfer", "stop", "wipe", "wipe"]

    report = asyncio.run(run_rounds(engine, faults, tmp_path, seconds=3.0))

    check(report)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["raft", "paxos"])
def test_a_leader_that_is_cut_off_answers_nothing_that_is_not_so(
    engine: str, tmp_path: Path
) -> None:
    arguments = ["--engine", engine, "--fault", "partition", "--rounds", "2", "--seconds", "2.5"]

    done = enter("tests.processes.faults", [*arguments, "--directory", str(tmp_path), "--json"])

    assert done.stdout, "it ended without a report"
    check(msgspec.json.decode(done.stdout, type=Report))


@pytest.mark.parametrize(
    ("index", "rows", "verdict"),
    [
        (7, (("i1", "2", "passing"),), "ok"),
        (7, (("i1", "1", "passing"),), "violation"),  # the second write is lost
        (7, (), "violation"),
        (6, (("i1", "1", "passing"),), "violation"),  # it was true once
    ],
)
def test_the_judge_sees_what_was_lost_and_what_was_stale(
    index: int, rows: tuple[tuple[str, str, str], ...], verdict: str
) -> None:
    history = [
        Operation("a", "svc", "register", ("i1", "1"), "ok", 1, 2, 5),
        Operation("a", "svc", "register", ("i1", "2"), "ok", 3, 4, 7),
        Operation("b", "svc", "resolve", (), rows, 5, 6, index),
    ]

    assert judge(history, []).outcome == verdict
