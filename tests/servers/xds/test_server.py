"""The door itself: gRPC on one side, a node on the other."""

import asyncio
import logging
import queue
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.rpc import status_pb2
from tests.servers.xds.records import record

from waypost.errors import Unavailable
from waypost.model import Instance
from waypost.node.bootstrap import NodeConfig
from waypost.node.node import AGE_UNKNOWN_MS, Node
from waypost.servers.xds import streams
from waypost.servers.xds.kinds import CDS, EDS
from waypost.servers.xds.server import SERVICE
from waypost.servers.xds.shelf import Shelf
from waypost.servers.xds.streams import Streams
from waypost.standalone import Standalone, StandaloneThread


class Registry:
    """A registry with its xDS door open."""

    def __init__(self) -> None:
        self._thread = StandaloneThread(NodeConfig(), native_port=0, http_port=None, xds_port=0)
        self._thread.start()

    @property
    def standalone(self) -> Standalone:
        return self._thread.standalone

    def register(self, service: str, id_: str, port: int = 80) -> None:
        instance = Instance(service, id_, "10.0.0.1", port)
        self._thread.submit(self.standalone.registry.register(instance, ttl_ms=0)).result()

    def metric(self, name: str) -> float:
        found = {m.name: m.samples[0][1] for m in self.standalone.registry.metrics()}
        return found[f"waypost_xds_{name}"]

    def stop(self) -> None:
        self._thread.stop()


class Stream:
    """One stream, a message at a time."""

    def __init__(self, registry: Registry, method: str = "StreamAggregatedResources") -> None:
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._channel = grpc.insecure_channel(registry.standalone.xds_address)
        self.call = self._channel.stream_stream(f"/{SERVICE}/{method}")(
            iter(self._requests.get, None), timeout=20
        )

    def say(self, data: bytes) -> None:
        self._requests.put(data)

    def ask(self, kind: str, *names: str, **fields: Any) -> None:
        request = discovery_pb2.DiscoveryRequest(type_url=kind, resource_names=names, **fields)
        self.say(request.SerializeToString())

    def hear(self) -> Any:
        return discovery_pb2.DiscoveryResponse.FromString(next(self.call))

    def answer(self, response: Any, *names: str, error: str = "") -> None:
        fields: dict[str, Any] = {"response_nonce": response.nonce}
        if error:
            fields["error_detail"] = status_pb2.Status(code=3, message=error)
        self.ask(response.type_url, *names, **fields)

    def end(self) -> None:
        self._requests.put(None)
        self._channel.close()


def ports(response: Any) -> set[int]:
    (resource,) = response.resources
    assignment = endpoint_pb2.ClusterLoadAssignment.FromString(resource.value)
    return {
        each.endpoint.address.socket_address.port_value
        for locality in assignment.endpoints
        for each in locality.lb_endpoints
    }


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def registry() -> Iterator[Registry]:
    there = Registry()
    try:
        yield there
    finally:
        there.stop()


@pytest.fixture
def stream(registry: Registry) -> Iterator[Stream]:
    there = Stream(registry)
    try:
        yield there
    finally:
        there.end()


def test_a_change_is_pushed_with_the_revision_at_which_it_is_true(
    registry: Registry, stream: Stream
) -> None:
    registry.register("orders", "a", 81)
    stream.ask(EDS, "orders")
    first = stream.hear()
    stream.answer(first, "orders")

    registry.register("billing", "x")
    registry.register("orders", "b", 82)
    second = stream.hear()

    node = registry.standalone.node
    assert ports(first) == {81}
    assert ports(second) == {81, 82}
    assert first.version_info == f"{node.cluster}.1"
    assert second.version_info == f"{node.cluster}.3"


def test_many_changes_become_one_response_for_one_that_has_not_answered(
    registry: Registry, stream: Stream
) -> None:
    stream.ask(EDS, "orders")
    first = stream.hear()
    for n in range(20):
        registry.register("orders", f"i{n}", 1000 + n)

    stream.answer(first, "orders")

    assert len(ports(stream.hear())) == 20
    assert registry.metric("responses_total") == 2


def test_delta_is_served_too(registry: Registry) -> None:
    registry.register("team-a/orders", "a")
    stream = Stream(registry, "DeltaAggregatedResources")
    request = discovery_pb2.DeltaDiscoveryRequest(type_url=CDS)

    stream.say(request.SerializeToString())
    response = discovery_pb2.DeltaDiscoveryResponse.FromString(next(stream.call))
    stream.end()

    assert [each.name for each in response.resources] == ["orders.team-a"]


def test_a_refusal_is_counted_each_time_and_told_once(
    registry: Registry, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "waypost.xds")
    stream.ask(EDS, "orders", node={"id": "c1", "user_agent_name": "picky"})

    for n in range(3):
        stream.answer(stream.hear(), "orders", error="no such locality")
        until(lambda count=n + 1: registry.metric("refused_total") == count)  # type: ignore[misc]
        registry.register("orders", f"i{n}", 1000 + n)

    (line,) = [each.getMessage() for each in caplog.records if each.name == "waypost.xds"]
    assert line == (
        "client 'c1 picky' refuses ClusterLoadAssignment of orders, and goes on with what it had: "
        "no such locality"
    )


def test_a_host_name_is_told_once_and_left_out(
    registry: Registry, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "waypost.xds")
    named = Instance("orders", "a", "db.internal", 80)
    submit = registry._thread.submit
    submit(registry.standalone.registry.register(named, ttl_ms=0)).result()

    stream.ask(EDS, "orders")

    assert ports(stream.hear()) == set()
    assert "orders: 1 of 1 instances have a host name, such as 'db.internal'" in caplog.text


def test_what_is_no_request_ends_the_stream(stream: Stream) -> None:
    stream.say(b"\xff\xff\xff")

    with pytest.raises(grpc.RpcError) as failed:
        next(stream.call)
    assert cast("grpc.Call", failed.value).code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_registry_that_jumps_is_told_anew(registry: Registry, stream: Stream) -> None:
    registry.register("orders", "a", 81)
    stream.ask(EDS, "orders")
    stream.answer(stream.hear(), "orders")
    other = Registry()
    for port in (82, 83):
        other.register("orders", f"i{port}", port)
    chunks = list(other.standalone.node.dump()[1])
    other.stop()

    async def restore() -> None:
        node = registry.standalone.node
        node.restored(node.load(iter(chunks)))

    registry._thread.submit(restore()).result()

    assert ports(stream.hear()) == {82, 83}


def test_only_so_many_names_of_a_service_are_kept() -> None:
    records = {"a": record("a")}
    shelf = Shelf(lambda: cast("Any", SimpleNamespace(service=lambda _: records)))

    for port in range(1_000):
        found = shelf.find(EDS, f"orders:{port}")
        assert found is not None
        assert found.name == f"orders:{port}"

    assert len(shelf._kept["orders"]) < 100


def test_the_registry_is_watched_only_while_somebody_listens(registry: Registry) -> None:
    watches = registry.standalone.node.watches
    assert len(watches) == 0
    one, other = Stream(registry), Stream(registry)
    for each in (one, other):
        each.ask(EDS, "orders")
        each.hear()

    assert len(watches) == 1
    one.end()
    until(lambda: registry.metric("streams") == 1)
    assert len(watches) == 1
    other.end()
    until(lambda: registry.metric("streams") == 0)
    assert len(watches) == 0


def test_one_stream_too_many_is_told_to_go_elsewhere(
    registry: Registry, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "STREAMS_MAX", 1)
    stream.ask(EDS, "orders")
    stream.hear()
    refused = Stream(registry)

    with pytest.raises(grpc.RpcError) as failed:
        next(refused.call)
    refused.end()

    assert cast("grpc.Call", failed.value).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_node_that_knows_of_no_leader_yet_takes_no_stream() -> None:
    async def story() -> None:
        node = SimpleNamespace(admit=lambda _: None, age_ms=AGE_UNKNOWN_MS)
        with pytest.raises(Unavailable, match="has not heard from a leader"):
            Streams(cast("Node", node)).begin(cast("Any", None))

    asyncio.run(story())


def test_it_stops_at_once_though_streams_are_open(registry: Registry, stream: Stream) -> None:
    stream.ask(EDS, "orders")
    stream.hear()

    began = time.monotonic()
    registry.stop()

    assert time.monotonic() - began < 5
    with pytest.raises(grpc.RpcError) as failed:
        next(stream.call)
    assert cast("grpc.Call", failed.value).code() in (
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNAVAILABLE,
    )


def serve(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    program = f"import sys; {code}; from waypost.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "serve", "--port", "0", "--http-port", "0"]
    return subprocess.run(
        [*command, "--dns-port", "0", *options],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("missing", ["grpc", "envoy"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    done = serve(f"sys.modules[{missing!r}] = None", "--xds-port", "0")

    assert done.returncode == 4
    assert f"xDS: {missing}" in done.stderr
    assert "is not installed here: pip install 'waypost[xds]'" in done.stderr


def test_a_port_that_is_taken_is_named_with_the_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve("pass", "--xds-port", str(port))

    assert done.returncode == 71
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "choose another with --xds-port" in done.stderr


def test_a_door_that_is_closed_is_not_even_imported() -> None:
    code = (
        "import asyncio, sys\n"
        "from waypost.node.bootstrap import NodeConfig\n"
        "from waypost.standalone import StandaloneThread\n"
        "StandaloneThread(NodeConfig(), native_port=0, http_port=0).start().stop()\n"
        "assert not {'grpc', 'envoy', 'google.protobuf'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
