"""The short form of the soak: see ``soak`` for the long one."""

import asyncio
from pathlib import Path

from tests.doors.consul import soak


def test_no_wake_up_is_lost_and_no_index_goes_back_when_leaders_are_killed(
    tmp_path: Path,
) -> None:
    report = asyncio.run(soak.run(tmp_path, seconds=8, watchers=80, kill_every_s=3, seed=20261122))

    assert report.lost == []
    assert report.backwards == []
    assert report.kills >= 1
    assert report.changes >= 20
    assert report.needless <= report.answers // 50, report
