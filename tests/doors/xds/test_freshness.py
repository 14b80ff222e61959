"""A client that moves from one node to another is never told an older state."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from envoy.service.discovery.v3 import discovery_pb2
from tests.doors.over_http import Api, eventually
from tests.processes.cluster import ClusterProcesses

from waypost.servers.xds.kinds import EDS
from waypost.servers.xds.server import SERVICE


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterProcesses]:
    processes = ClusterProcesses(tmp_path, "--xds-port", "0")
    try:
        yield processes.start()
    finally:
        processes.stop()


def version_told(address: str, version: str) -> str:
    """What a node tells a client that has this version from another."""
    request = discovery_pb2.DiscoveryRequest(
        type_url=EDS, resource_names=["orders"], version_info=version
    )
    with grpc.insecure_channel(address) as channel:
        method = channel.stream_stream(f"/{SERVICE}/StreamAggregatedResources")
        call = method(iter([request.SerializeToString()]), timeout=20)
        return str(discovery_pb2.DiscoveryResponse.FromString(next(call)).version_info)


def has_heard_from_a_leader(address: str) -> bool:
    """Whether a node answers at all: just started, it sends its clients elsewhere."""
    try:
        return bool(version_told(address, ""))
    except grpc.RpcError as error:
        if "has not heard from a leader yet" not in str(error):
            raise
        return False


def test_a_node_that_is_behind_what_the_client_knows_sends_it_elsewhere(
    cluster: ClusterProcesses, api: Api
) -> None:
    api.register("orders", "a")
    nodes = [node.xds for node in cluster.nodes.values()]
    for node in nodes:
        eventually(lambda node=node: has_heard_from_a_leader(node))  # type: ignore[misc]

    told = version_told(nodes[0], "")
    name, _, revision = told.rpartition(".")
    for node in nodes:  # each of them gets there
        assert int(version_told(node, told).rpartition(".")[2]) >= int(revision)

    with pytest.raises(grpc.RpcError) as failed:
        version_told(nodes[1], f"{name}.{int(revision) + 1_000_000}")
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
    assert "ask again in a moment, or another node" in str(failed.value)

    # The revision of another registry says nothing about this one.
    assert version_told(nodes[1], f"feedfacefeedface.{int(revision) + 1_000_000}")
