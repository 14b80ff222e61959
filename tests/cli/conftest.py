from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.programs import World

import waypost
from waypost.client.blocking import BlockingRegistry


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The native address of a registry that a whole module uses: each test by its own services."""
    with World(tmp_path_factory.mktemp("registry")).serving() as running:
        yield running.native


@pytest.fixture
def registry(server: str) -> Iterator[BlockingRegistry]:
    with waypost.connect(server, cache_dir=None) as client:
        yield client
