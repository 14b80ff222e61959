"""A pick takes less than a microsecond, as the benchmark measures it.

On a machine that is slow, or busy with something else, a microsecond is worth less: the limit is
then stretched by as much as the yard (a fixed piece of plain Python, measured in turn with the
picks) takes longer than ``QUIET_YARD_NS``, what it takes on a quiet core at 2.8 GHz.  It is never
tightened, and a pick has to keep it in one of three tries.
"""

import json
import sys

import pytest
from benchmarks import micro_pick

from waypost.balance import POLICIES

QUIET_YARD_NS = 145.0
LIMIT_NS = 1_000.0


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("n", micro_pick.SIZES)
def test_a_pick_takes_less_than_a_microsecond(policy: str, n: int) -> None:
    pool = micro_pick.busy_pool(policy, n)
    yard = micro_pick.Yard()

    seen: list[tuple[float, float]] = []
    for _ in range(3):
        pick_ns, yard_ns = micro_pick.best(pool.pick, yard.run, repeats=30, times=1_000)
        seen.append((pick_ns, yard_ns))
        if pick_ns < LIMIT_NS * max(1.0, yard_ns / QUIET_YARD_NS):
            return

    pytest.fail(f"a pick from {n} by {policy} took (pick, yard) in ns: {seen}")


def test_piped_it_prints_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["micro_pick.py"])
    monkeypatch.setattr(micro_pick, "SIZES", (3,))

    micro_pick.main()

    printed = json.loads(capsys.readouterr().out)
    assert [figure["policy"] for figure in printed["figures"]] == list(POLICIES)
    assert all(0 < figure["pick_ns"] < figure["call_ns"] for figure in printed["figures"])
