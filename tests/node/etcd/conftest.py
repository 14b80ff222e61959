"""One etcd for a module; each test has a prefix of its own in it."""

from collections.abc import Iterator

import pytest
from tests.node.etcd.servers import EtcdServer

from waypost.node.etcd.settings import EtcdSettings


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    server = EtcdServer(tmp_path_factory.mktemp("etcd")).start()
    yield server
    server.stop()


@pytest.fixture
def settings(etcd: EtcdServer, request: pytest.FixtureRequest) -> EtcdSettings:
    return EtcdSettings(endpoints=(etcd.endpoint,), prefix=f"/test/{request.node.name}")
