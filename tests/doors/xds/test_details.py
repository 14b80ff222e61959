"""What real clients make of weights, zones and names, with one node."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.docs.runner import ROOT
from tests.doors.over_http import eventually
from tests.doors.xds.clients import Caller, Envoy, EnvoyOfPage, js_client, python_client
from tests.doors.xds.providers import Provider

from waypost.model import Health, Instance
from waypost.node.bootstrap import NodeConfig
from waypost.standalone import StandaloneThread

Make = Callable[[Path, list[str], str], Caller]
GRPC: dict[str, Make] = {
    "grpcio": lambda directory, nodes, name: python_client(directory, nodes, f"xds:///{name}"),
    "grpc-js": lambda directory, nodes, name: js_client(directory, nodes, f"xds:///{name}"),
}
ALL: dict[str, Make] = {
    **GRPC,
    "envoy": lambda directory, nodes, name: Envoy(directory, nodes, name, "DELTA_GRPC"),
}


class Node:
    """One node, and providers that register there."""

    def __init__(self) -> None:
        self._thread = StandaloneThread(
            NodeConfig(), native_port=0, http_port=None, dns_port=None, xds_port=0
        ).start()
        self.xds = [self._thread.standalone.xds_address]
        self.providers = {name: Provider(name) for name in "abc"}

    def register(
        self,
        service: str,
        id_: str,
        *,
        http: bool = False,
        health: Health = "passing",
        weight: float | None = None,
        zone: str = "",
    ) -> None:
        provider = self.providers[id_]
        port = provider.http_port if http else provider.grpc_port
        instance = Instance(service, id_, "127.0.0.1", port, weight=weight, zone=zone)
        register = self._thread.standalone.registry.register(instance, ttl_ms=0, health=health)
        self._thread.submit(register).result()

    def stop(self) -> None:
        self._thread.stop()
        for provider in self.providers.values():
            provider.stop()


@pytest.fixture
def node() -> Iterator[Node]:
    there = Node()
    try:
        yield there
    finally:
        there.stop()


@pytest.mark.parametrize("kind", ALL)
def test_calls_follow_the_weights(kind: str, node: Node, tmp_path: Path) -> None:
    for name, weight, zone in (("a", 1, "north"), ("b", 3, "north"), ("c", 6, "south")):
        node.register("orders", name, weight=weight, zone=zone, http=kind == "envoy")
    with ALL[kind](tmp_path / "client", node.xds, "orders") as caller:
        eventually(lambda: set(caller.call(20)) == set("abc"), caller.log)

        calls = 100 if kind == "envoy" else 1_000  # Envoy goes by turns; gRPC draws the locality
        heard = caller.call(calls)

    # Of 1,000 draws, five deviations are 0.047, 0.072 and 0.077.
    assert set(heard) == set("abc")
    assert abs(heard["a"] / calls - 0.1) < 0.05
    assert abs(heard["b"] / calls - 0.3) < 0.075
    assert abs(heard["c"] / calls - 0.6) < 0.08


@pytest.mark.parametrize("kind", GRPC)
@pytest.mark.parametrize("target", ["orders.team-a", "team-a/orders:8080"])
def test_a_namespace_is_part_of_the_target(
    kind: str, target: str, node: Node, tmp_path: Path
) -> None:
    node.register("orders", "a")
    node.register("team-a/orders", "b")

    with GRPC[kind](tmp_path / "client", node.xds, target) as caller:
        assert caller.call(3) == {"b": 3}


@pytest.mark.parametrize("kind", GRPC)
def test_a_service_that_nobody_registered_fails_at_once_and_works_once_it_is_there(
    kind: str, node: Node, tmp_path: Path
) -> None:
    with GRPC[kind](tmp_path / "client", node.xds, "orders") as caller:
        (failure,) = caller.call(1)
        # Not DEADLINE_EXCEEDED after 5 s, as it would be if gRPC waited for its own 15 s.
        assert failure.startswith("UNAVAILABLE")

        node.register("orders", "a")
        eventually(lambda: caller.call(1) == {"a": 1}, caller.log)


def test_envoy_shows_the_health_of_each(node: Node, tmp_path: Path) -> None:
    for name, health in (("a", "passing"), ("b", "critical"), ("c", "draining")):
        node.register("orders", name, health=health, http=True)  # type: ignore[arg-type]
    with Envoy(tmp_path / "client", node.xds, "orders", "GRPC") as envoy:
        eventually(lambda: envoy.call(1) == {"a": 1}, envoy.log)

        clusters = json.loads(envoy.ask_admin("/clusters?format=json"))["cluster_statuses"]

    (orders,) = [each for each in clusters if each["name"] == "orders"]
    told = {
        host["address"]["socket_address"]["port_value"]: host["health_status"]["eds_health_status"]
        for host in orders["host_statuses"]
    }
    ports = {name: provider.http_port for name, provider in node.providers.items()}
    assert told == {ports["a"]: "HEALTHY", ports["b"]: "UNHEALTHY", ports["c"]: "DRAINING"}


def test_grpc_passes_through_envoy_as_it_is(node: Node, tmp_path: Path) -> None:
    node.register("orders", "a")
    with Envoy(tmp_path / "envoy", node.xds, "orders", "DELTA_GRPC") as envoy:
        program = Path(__file__).parent / "grpc_client.py"

        def answer() -> str:
            return subprocess.run(
                [sys.executable, str(program), envoy.address],
                input="1\n",
                capture_output=True,
                text=True,
                check=True,
            ).stdout

        eventually(lambda: answer() == '{"a": 1}\n', envoy.log)


def test_the_configuration_of_the_page_is_a_working_one(node: Node, tmp_path: Path) -> None:
    page = (ROOT / "docs/doors/xds.md").read_text()
    (configuration,) = page.split("```yaml\n")[1:]
    node.register("orders", "a", http=True)

    with EnvoyOfPage(tmp_path / "envoy", node.xds, configuration.split("```")[0]) as envoy:
        eventually(lambda: envoy.call(1) == {"a": 1}, envoy.log)
