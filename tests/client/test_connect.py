import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import waypost
from waypost.errors import Invalid, Unavailable
from waypost.node.bootstrap import NodeConfig
from waypost.standalone import StandaloneThread


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    thread = StandaloneThread(NodeConfig(), native_port=0, http_port=None).start()
    yield thread.standalone.native_address
    thread.stop()


def test_the_same_call_serves_async_with_and_with(address: str) -> None:
    async def run() -> str:
        async with waypost.connect(address, cache_dir=None) as registry:
            assert isinstance(registry, waypost.Registry)
            return (await registry.status()).cluster

    with waypost.connect(address, cache_dir=None) as registry:
        assert isinstance(registry, waypost.BlockingRegistry)
        assert registry.status().cluster == asyncio.run(run())


def test_without_an_address_the_environment_says_where(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAYPOST", f"waypost://{address}")

    with waypost.connect(cache_dir=None) as registry:
        assert registry.status().role == "leader"


def test_without_anything_it_is_the_default_port_of_this_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WAYPOST", "")

    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 8300)) == 0:
            pytest.skip("somebody runs a registry at the default port of this host")

    with (
        waypost.connect(cache_dir=None) as registry,
        pytest.raises(Unavailable, match=r"127\.0\.0\.1:8300: connection refused"),
    ):
        registry.status()


def test_several_addresses_are_one_registry(address: str) -> None:
    with waypost.connect(f"waypost://127.0.0.1:1,{address}", cache_dir=None) as registry:
        assert registry.status().role == "leader"


@pytest.mark.parametrize("given", [{"timeout": 0}, {"connect_timeout": -1}])
def test_a_timeout_that_is_none_is_refused(given: dict[str, float]) -> None:
    with pytest.raises(Invalid, match="above 0"):
        waypost.connect("127.0.0.1:1", **given)  # type: ignore[arg-type]


def test_a_bad_address_is_refused_at_once() -> None:
    with pytest.raises(Invalid, match="not a port"):
        waypost.connect("127.0.0.1:http")


def test_the_cache_goes_where_it_is_told_to(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    for number, cache_dir in enumerate(("auto", str(tmp_path / "mine"), "", None)):
        with waypost.connect(address, cache_dir=cache_dir) as registry:
            registry.register(f"c{number}", port=1)
            registry.service(f"c{number}").pick()

    assert len(list((tmp_path / "xdg" / "waypost").iterdir())) == 1
    assert len(list((tmp_path / "mine").iterdir())) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"xdg", "mine"}
