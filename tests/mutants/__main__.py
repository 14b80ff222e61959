"""``python -m tests.mutants``: proves that what the tests claim to catch, they catch.

Every mutant is one known bug of a consensus system, put back into the shipped code.  Each must be
killed by the scripts, the walks, the simulator or a named test.  One that survives is a hole in the
tests, and the exit code is 1.
"""

import argparse
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from .catalogue import MUTANTS, Mutant
from .killers import SECONDS

_DEFAULT = ("scripts", "walk", "member", "simulate")


def run(name: str, killer: str) -> str:
    """What the killer says of that mutant; nothing if it finds nothing."""
    seconds = SECONDS.get(killer, 300.0)
    command = [sys.executable, "-m", "tests.mutants.killers", name, killer, str(seconds)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + 120, check=False
        )
    except subprocess.TimeoutExpired:
        return "it hangs"
    if "LookupError" in done.stderr:
        raise LookupError(done.stderr.strip().splitlines()[-1])
    if done.returncode == 0:
        return ""
    return (done.stdout.strip() or done.stderr.strip() or "?").splitlines()[-1]


def attempt(mutant: Mutant) -> tuple[Mutant, str, str, float]:
    """The killer that found it and what it said, or nothing."""
    began = time.monotonic()
    for killer in mutant.killers or _DEFAULT:
        try:
            said = run(mutant.name, killer)
        except LookupError as error:
            return mutant, "", str(error), time.monotonic() - began
        if said:
            return mutant, killer, said, time.monotonic() - began
    return mutant, "", "", time.monotonic() - began


def main() -> int:
    """Run them all, or those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="these alone")
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    chosen = [m for m in MUTANTS if not asked.names or m.name in asked.names]
    survivors, killers = 0, set[str]()
    with ThreadPoolExecutor(asked.jobs) as pool:
        for mutant, killer, said, seconds in pool.map(attempt, chosen):
            fate = f"killed by {killer}" if killer else "SURVIVES"
            survivors += not killer
            killers |= {killer} - {""}
            print(f"{fate:20} {seconds:6.1f} s  {mutant.row:>4}  {mutant.name}: {said}", flush=True)
        used = sorted(killers)
        for killer, said in zip(used, pool.map(partial(run, "none"), used), strict=True):
            if said:
                print(
                    f"{killer} finds something in the code as it is, so it proves nothing: {said}"
                )
                survivors = len(chosen)
    print(f"{len(chosen) - survivors} of {len(chosen)} killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
