"""What a mutant is set against, cheapest first: scripts, random walks, the simulator, tests.

Each is run in a process of its own by ``__main__``, with the mutant installed before anything else
is imported.  A killer that raises, or that finds a violation, has killed.
"""

import sys
import time

SECONDS = {"scripts": 60.0, "walk": 25.0, "member": 25.0, "simulate": 60.0}


def scripts() -> str:
    """Play every script; return what went otherwise than written."""
    from tests.consensus.scripts import SCRIPTS, parts_of, play

    for path in sorted(SCRIPTS.glob("*/*.txt")):
        folder = path.parent.name
        for engine in ("raft", "paxos") if folder == "both" else (folder,):
            text = path.read_text()
            try:
                played = play(text, engine)
            except Exception as error:
                return f"{path.stem}: {type(error).__name__}: {error}"
            for (_, said), (_, command, expected) in zip(
                played, parts_of(text, engine), strict=True
            ):
                if said != expected:
                    return f"{path.stem}: after {command.splitlines()[-1]!r}"
    return ""


def walk(until: float) -> str:
    """Random walks of cores."""
    from tests.consensus.walk import run, steps_of

    seed = 0
    while time.monotonic() < until:
        for engine in ("raft", "paxos"):
            try:
                run(engine, seed, steps_of(seed))
            except Exception as error:
                return f"{engine} {seed}: {type(error).__name__}: {str(error)[:120]}"
        seed += 1
    return ""


def member(until: float) -> str:
    """Random walks of members, over epochs."""
    from tests.replica.walk import Walk

    seed = 1
    while time.monotonic() < until:
        try:
            Walk(seed).run(400)
        except Exception as error:
            return f"{seed}: {type(error).__name__}: {str(error)[:120]}"
        seed += 1
    return ""


def simulate(until: float) -> str:
    """Seeds of the simulator."""
    from waypost.sim.run import run_seed

    seed = 0
    while time.monotonic() < until:
        for engine in ("raft", "paxos"):
            outcome = run_seed(seed, engine)
            if outcome.failure is not None:
                return f"{engine} {seed}: {outcome.failure.invariant}: {outcome.failure.what[:120]}"
        seed += 1
    return ""


def tests(paths: list[str]) -> str:
    """Tests of a floor that the simulator does not run, or that say it more simply."""
    import pytest

    # Waypost is a plugin of pytest, and those are imported by pytest itself, which rewrites their
    # assertions: it would read the sources unchanged.
    options = ["--assert=plain", "-x", "-q", "-p", "no:cacheprovider", "--no-header"]
    code = pytest.main([*options, *paths])
    return "" if code == pytest.ExitCode.OK else f"tests: {' '.join(paths)}"


def main(name: str, killer: str, seconds: float) -> str:
    """Set one mutant against one killer; with the name ``none`` the code as it is."""
    from .catalogue import MUTANTS
    from .patching import check_in_use, install

    mutants = [mutant for mutant in MUTANTS if mutant.name == name]
    assert mutants or name == "none", f"no mutant is called {name}"
    for mutant in mutants:
        install(mutant)
    found = _ask(killer, time.monotonic() + seconds)
    for mutant in mutants:
        check_in_use(mutant)
    return found


def _ask(killer: str, until: float) -> str:
    if killer == "scripts":
        return scripts()
    if killer.startswith("tests/"):
        return tests([killer])
    return {"walk": walk, "member": member, "simulate": simulate}[killer](until)


if __name__ == "__main__":
    found = main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
    print(f"\n{found}")
    sys.exit(1 if found else 0)
