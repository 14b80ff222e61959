"""Two registries for each engine: one that nothing happens to, and one that is knocked about."""

import itertools
from collections.abc import Iterator

import pytest
from tests.contract.clusters import Cluster
from tests.contract.engines import ENGINES, Engine

from waypost.consensus.settings import LAN, Settings

CALM = Settings(election=1_000_000_000, heartbeat=100_000_000)
"""Nobody is lost there, and whoever else uses this machine should not make it seem so."""
_numbers = itertools.count(1)


@pytest.fixture(scope="session", params=ENGINES, ids=str)
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.param
    return found


@pytest.fixture(scope="session")
def steady(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from _opened(engine, tmp_path_factory, CALM)


@pytest.fixture(scope="session")
def knocked(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from _opened(engine, tmp_path_factory, LAN)


@pytest.fixture
def cluster(steady: Cluster) -> Iterator[Cluster]:
    """A registry in which all nodes stay up."""
    yield steady
    assert steady.failures == []


@pytest.fixture
def rough(knocked: Cluster) -> Iterator[Cluster]:
    """A registry to be broken: it is whole when a test begins."""
    knocked.run(knocked.heal())
    yield knocked
    assert knocked.failures == []


@pytest.fixture
def service() -> str:
    """A name that no other test has."""
    return f"orders-{next(_numbers)}"


def _opened(engine: Engine, paths: pytest.TempPathFactory, settings: Settings) -> Iterator[Cluster]:
    cluster = Cluster(engine, paths.mktemp(str(engine)), settings)
    cluster.run(cluster.start())
    yield cluster
    cluster.close()
