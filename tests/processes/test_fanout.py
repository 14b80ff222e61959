"""Every watcher sees every change, once, in order, and soon."""

import asyncio
from pathlib import Path

import pytest

from tests.processes.programs import RegistryProcess
from waypost.cli.fanout import FanOut, fan_out
from waypost.standalone import new_event_loop

P99_MS_MAX = 50.0
TRIES = 3  # for the latency alone: other programs may take both cores for a moment


def watched(registry: RegistryProcess) -> FanOut:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(fan_out(registry.address, 1000, seconds=5, rate=10))


@pytest.mark.slow
def test_a_thousand_watchers_see_each_change_once_in_order_within_50_ms_at_p99(
    tmp_path: Path,
) -> None:
    registry = RegistryProcess(tmp_path / "data").start()
    p99s_ms: list[float] = []
    try:
        while len(p99s_ms) < TRIES and min(p99s_ms, default=P99_MS_MAX + 1) > P99_MS_MAX:
            seen = watched(registry)
            assert (seen.missed, seen.repeated, seen.out_of_order) == (0, 0, 0)
            assert seen.received == seen.changes * 1000
            p99s_ms.append(seen.percentile_ms(0.99))
            print(
                f"{seen.changes} changes to 1,000 watchers: p50 {seen.percentile_ms(0.5):.1f} ms, "
                f"p99 {p99s_ms[-1]:.1f} ms"
            )
    finally:
        registry.stop()

    assert min(p99s_ms) <= P99_MS_MAX
