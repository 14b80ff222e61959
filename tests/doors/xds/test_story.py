"""What real clients see of a service's life, and of the loss of the leader."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.doors.over_http import Api, eventually
from tests.doors.xds.clients import Caller, Envoy, js_client, python_client
from tests.doors.xds.providers import Provider
from tests.processes.cluster import ClusterProcesses

SERVICE = "orders"
Make = Callable[[Path, list[str]], Caller]

CALLERS: dict[str, Make] = {
    "grpcio": lambda directory, nodes: python_client(directory, nodes, f"xds:///{SERVICE}"),
    "grpc-js": lambda directory, nodes: js_client(directory, nodes, f"xds:///{SERVICE}"),
    "envoy": lambda directory, nodes: Envoy(directory, nodes, SERVICE, "GRPC"),
    "envoy-delta": lambda directory, nodes: Envoy(directory, nodes, SERVICE, "DELTA_GRPC"),
}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterProcesses]:
    processes = ClusterProcesses(tmp_path, "--xds-port", "0")
    try:
        yield processes.start()
    finally:
        processes.stop()


@pytest.fixture
def providers() -> Iterator[dict[str, Provider]]:
    there = {name: Provider(name) for name in "abc"}
    try:
        yield there
    finally:
        for provider in there.values():
            provider.stop()


@pytest.mark.parametrize("kind", CALLERS)
def test_it_follows_a_service_through_its_life_and_the_loss_of_the_leader(
    kind: str,
    cluster: ClusterProcesses,
    api: Api,
    providers: dict[str, Provider],
    tmp_path: Path,
) -> None:
    def register(name: str) -> None:
        provider = providers[name]
        port = provider.http_port if kind.startswith("envoy") else provider.grpc_port
        api.register(SERVICE, name, port=port)

    register("a")
    register("b")
    nodes = [node.xds for node in cluster.nodes.values()]
    with CALLERS[kind](tmp_path / "client", nodes) as caller:

        def answers(names: str, *, none_fails: bool = True) -> None:
            heard: dict[str, int] = {}

            def is_so() -> bool:
                heard.clear()
                heard.update(caller.call(10))
                if none_fails:
                    assert set(heard) <= set("abc"), (heard, caller.log())
                return set(heard) == set(names)

            eventually(is_so, lambda: f"{names}: {heard}\n{caller.log()}")

        answers("ab", none_fails=False)

        api.say(SERVICE, "a", "critical")
        answers("b")
        api.say(SERVICE, "a", "passing")
        answers("ab")

        api.say(SERVICE, "a", "draining")
        answers("b")
        api.deregister(SERVICE, "a")
        answers("b")
        register("a")
        answers("ab")

        api.deregister(SERVICE, "a")
        api.deregister(SERVICE, "b")
        eventually(lambda: not set(caller.call(3)) & set("ab"), caller.log)
        register("b")
        answers("b", none_fails=False)

        leader = asyncio.run(cluster.leader())
        leader.kill()
        assert set(caller.call(20)) == {"b"}
        register("c")
        answers("bc")

        counted = [api.metric(node, "waypost_xds_refused_total") for node in cluster.running]
        assert counted == [0, 0], caller.log()
