"""Every watcher sees every change, once, in order, and soon."""

import asyncio
from pathlib import Path

import pytest

from tests.processes.programs import RegistryProcess
from waypost.cli.fanout import fan_out
from waypost.standalone import new_event_loop


@pytest.mark.slow
def test_a_thousand_watchers_see_each_change_once_in_order_within_50_ms_at_p99(
    tmp_path: Path,
) -> None:
    registry = RegistryProcess(tmp_path / "data").start()
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            seen = runner.run(fan_out(registry.address, 1000, seconds=5, rate=10))
    finally:
        registry.stop()

    print(
        f"{seen.changes} changes to 1,000 watchers: p50 {seen.percentile_ms(0.5):.1f} ms, "
        f"p99 {seen.percentile_ms(0.99):.1f} ms"
    )
    assert (seen.missed, seen.repeated, seen.out_of_order) == (0, 0, 0)
    assert seen.received == seen.changes * 1000
    assert seen.percentile_ms(0.99) <= 50
