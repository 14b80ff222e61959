from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doors.over_http import Api
from tests.processes.cluster import ClusterProcesses


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterProcesses]:
    """Three nodes, all their doors open."""
    processes = ClusterProcesses(tmp_path)
    try:
        yield processes.start()
    finally:
        processes.stop()


@pytest.fixture
def api(cluster: ClusterProcesses) -> Iterator[Api]:
    """What changes the registry, at whichever node is there."""
    there = Api(cluster)
    try:
        yield there
    finally:
        there.close()
