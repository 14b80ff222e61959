"""Short walks of both engines; ``walk`` itself goes on for as long as one likes."""

import pytest

from .walk import run


@pytest.mark.parametrize("engine", ["raft", "paxos"])
@pytest.mark.parametrize("seed", range(30))
def test_nothing_breaks_on_a_random_walk(engine: str, seed: int) -> None:
    world = run(engine, seed, 400)

    assert world.steps == 400


def test_walks_get_somewhere() -> None:
    worlds = [run(engine, seed, 400) for engine in ("raft", "paxos") for seed in range(100, 114)]

    assert sum(len(world.log) for world in worlds) > 200
    assert sum(len(world.leaders) for world in worlds) > 30


@pytest.mark.parametrize("engine", ["raft", "paxos"])
def test_the_same_seed_gives_the_same_walk(engine: str) -> None:
    first, second = run(engine, 7, 600), run(engine, 7, 600)

    assert first.log == second.log
    assert first.heights == second.heights
    assert first.answers == second.answers
