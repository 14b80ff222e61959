"""Many seeds, on as many processors as one likes: a summary that says what was reached.

Seeds do not know of each other, so they are run in any order and counted in any order; which of
them fail does not depend on how many run at once.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context

import msgspec

from waypost.sim.marks import Marks
from waypost.sim.plan import Engine
from waypost.sim.run import Outcome, run_seed

CHUNK = 8


class Summary(msgspec.Struct):
    """What became of the seeds so far."""

    engine: Engine
    seeds: int = 0
    steps: int = 0
    virtual_ns: int = 0
    slowest_rest_ns: int = 0
    failed: list[int] = []
    marks: dict[str, int] = {}

    def add(self, outcome: Outcome) -> None:
        """Count one more."""
        self.seeds += 1
        self.steps += outcome.steps
        self.virtual_ns += outcome.virtual_ns
        self.slowest_rest_ns = max(self.slowest_rest_ns, outcome.rest_ns)
        if outcome.failure is not None:
            self.failed.append(outcome.seed)
        marks = Marks()
        marks.counts = self.marks
        marks.add(outcome.marks)


def run_all(engine: Engine, seeds: Sequence[int], jobs: int) -> Iterator[Outcome]:
    """Run them, and hand each outcome out as it comes."""
    if jobs <= 1:
        for seed in seeds:
            yield run_seed(seed, engine)
        return
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting: set[Future[list[Outcome]]] = set()
        while chunks or waiting:
            while chunks and len(waiting) < 2 * jobs:
                waiting.add(pool.submit(_run_chunk, engine, chunks.pop(0)))
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield from future.result()


def _run_chunk(engine: Engine, seeds: Sequence[int]) -> list[Outcome]:
    return [run_seed(seed, engine) for seed in seeds]
