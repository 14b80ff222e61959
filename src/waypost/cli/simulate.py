"""``waypost simulate``: whole clusters on virtual time, with every fault that they must survive.

On a terminal it shows how far it is; into a pipe it prints one line of JSON at the end.  A seed
that fails is made small, told as a story on stderr, and drawn into a page beside it.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from waypost.cli import exits
from waypost.cli.output import is_for_people, print_json
from waypost.sim.plan import ENGINES, Engine, draw_plan

if TYPE_CHECKING:
    from waypost.sim.campaign import Summary
    from waypost.sim.run import Outcome

FAILURES_SHOWN: Final = 3
"""So many failing seeds are made small and told; the others are named."""


@click.command()
@click.option(
    "--engine",
    type=click.Choice(["raft", "paxos"]),
    default="raft",
    show_default=True,
    help="What the clusters begin with; some of them switch.",
)
@click.option("--seeds", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--first-seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), help="Run this one, and tell what happens.")
@click.option("--trace", is_flag=True, help="With --seed: every message too.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="JSON even on a terminal.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=".",
    help="Where the pages of failing seeds go.",
)
def simulate(
    engine: str,
    seeds: int,
    first_seed: int,
    seed: int | None,
    trace: bool,
    jobs: int,
    as_json: bool,
    out: Path,
) -> int:
    """Run whole clusters on virtual time, under faults, and check everything that they do.

    A seed decides the cluster, its faults and its clients.  The same seed gives the same run on
    every machine: what fails once fails again.

    Exit codes: 0 nothing was wrong, 5 something was.
    """
    chosen: Engine = next(each for each in ENGINES if each == engine)
    if trace and seed is None:
        raise click.UsageError("--trace: needs --seed, which says what to trace")
    if seed is not None:
        return _run_one(chosen, seed, out, trace=trace, as_json=as_json)
    return _run_many(chosen, range(first_seed, first_seed + seeds), jobs, out, as_json=as_json)


class _Said(msgspec.Struct, frozen=True):
    """The JSON of a single seed."""

    seed: int
    engine: str
    steps: int
    virtual_s: float
    trace: str
    failed: str


class _Summed(msgspec.Struct, frozen=True):
    """The JSON of many seeds."""

    engine: str
    first_seed: int
    seeds: int
    steps: int
    virtual_s: float
    wall_s: float
    seeds_per_s: float
    slowest_rest_ms: float
    failed: list[int]
    marks: dict[str, int]


def _run_one(engine: Engine, seed: int, out: Path, *, trace: bool, as_json: bool) -> int:
    from waypost.sim.report import story
    from waypost.sim.run import run_plan
    from waypost.sim.trace import text

    plan = draw_plan(seed, engine)
    outcome = run_plan(plan, details=True)
    failure = outcome.failure
    if as_json:
        what = "" if failure is None else f"{failure.invariant}: {failure.what}"
        virtual = outcome.virtual_ns / 1e9
        print_json(_Said(seed, engine, outcome.steps, virtual, outcome.trace, what))
    else:
        print(text(list(outcome.lines)) if trace else story(plan, outcome))
        print(f"\n{outcome.steps} steps, trace {outcome.trace}")
    if failure is None:
        return exits.OK
    _tell_failure(engine, seed, out)
    return exits.NOT_AS_WANTED


def _run_many(engine: Engine, seeds: range, jobs: int, out: Path, *, as_json: bool) -> int:
    from waypost.sim.campaign import Summary, run_all

    summary = Summary(engine)
    for_people = is_for_people(as_json)
    began = time.perf_counter()
    outcomes: Iterable[Outcome] = run_all(engine, seeds, jobs)
    if for_people:
        outcomes = _with_progress(outcomes, summary, len(seeds))
    for outcome in outcomes:
        summary.add(outcome)
    wall = time.perf_counter() - began
    summed = _Summed(
        engine,
        seeds.start,
        summary.seeds,
        summary.steps,
        round(summary.virtual_ns / 1e9, 3),
        round(wall, 3),
        round(summary.seeds / wall, 2),
        summary.slowest_rest_ns / 1e6,
        sorted(summary.failed),
        dict(sorted(summary.marks.items())),
    )
    if for_people:
        _print_summary(summed)
    else:
        print_json(summed)
    for seed in summed.failed[:FAILURES_SHOWN]:
        _tell_failure(engine, seed, out)
    return exits.NOT_AS_WANTED if summed.failed else exits.OK


def _tell_failure(engine: Engine, seed: int, out: Path) -> None:
    """Make a failing seed small, tell it, and draw it."""
    from waypost.sim.report import picture, story
    from waypost.sim.run import run_plan
    from waypost.sim.shrink import shrink

    plan = draw_plan(seed, engine)
    failure = run_plan(plan).failure
    assert failure is not None, f"seed {seed} failed once and not again: it is not deterministic"
    small, outcome = shrink(plan, failure.invariant)
    out.mkdir(parents=True, exist_ok=True)
    page = out / f"waypost-{engine}-{seed}.html"
    page.write_text(picture(small, outcome), encoding="utf-8")
    print(f"{story(small, outcome)}\n\ndrawn in {page}\n", file=sys.stderr)


def _with_progress(
    outcomes: "Iterable[Outcome]", summary: "Summary", total: int
) -> "Iterator[Outcome]":
    """Show how far it is while they come."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[rate]:,.0f} steps/s, {task.fields[failed]} failed"),
    )
    began = time.perf_counter()
    with Progress(*columns) as progress:
        task = progress.add_task(f"{summary.engine} seeds", total=total, rate=0.0, failed=0)
        for outcome in outcomes:
            yield outcome
            elapsed = time.perf_counter() - began
            progress.update(
                task, advance=1, rate=summary.steps / elapsed, failed=len(summary.failed)
            )


def _print_summary(summed: _Summed) -> None:
    from waypost.cli.output import print_table

    print_table(
        ["REACHED", "TIMES"],
        [[name, f"{times:,}"] for name, times in summed.marks.items()],
        f"{summed.seeds} seeds of {summed.engine}, {summed.steps:,} steps, "
        f"{summed.virtual_s:,.0f} s of virtual time in {summed.wall_s:.1f} s "
        f"({summed.seeds_per_s:.1f} seeds/s); at rest again after {summed.slowest_rest_ms:.0f} ms "
        f"at most; {len(summed.failed)} failed {summed.failed[:10] or ''}",
    )
