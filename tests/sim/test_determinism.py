import os
import subprocess
import sys

import pytest

from waypost.sim.plan import ENGINES, Engine
from waypost.sim.run import run_seed

SEEDS = (3, 11, 29)
_PROGRAM = """
import sys
from waypost.sim.run import run_seed
for seed in map(int, sys.argv[2:]):
    print(seed, run_seed(seed, sys.argv[1]).trace)
"""


def traces(engine: str, hash_seed: str) -> list[str]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", _PROGRAM, engine, *map(str, SEEDS)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_seed_is_the_same_run_in_every_process(engine: Engine) -> None:
    first, second = traces(engine, "1"), traces(engine, "2")
    assert first == second
    assert first == [f"{seed} {run_seed(seed, engine).trace}" for seed in SEEDS]
