"""What is written by hand is what protobuf's own classes read."""

from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2,
)
from envoy.service.discovery.v3 import discovery_pb2
from google.rpc import status_pb2
from tests.servers.xds.records import record

from waypost.errors import Invalid
from waypost.servers.xds.delta import DeltaRequest
from waypost.servers.xds.kinds import CDS, EDS, IN_ORDER, LDS, RDS
from waypost.servers.xds.messages import decode_delta, decode_sotw, encode_delta, encode_sotw
from waypost.servers.xds.resources import encode_resource
from waypost.servers.xds.sotw import SotwRequest
from waypost.servers.xds.subscription import Response

CLASSES: dict[str, Any] = {
    LDS: listener_pb2.Listener,
    RDS: route_pb2.RouteConfiguration,
    CDS: cluster_pb2.Cluster,
    EDS: endpoint_pb2.ClusterLoadAssignment,
}
RECORDS = [
    record("a", "10.0.0.1", 8080, weight=2, zone="north"),
    record("b", "10.0.0.2", 8080, weight=2, zone="north", health="draining"),
    record("c", "::1", 8080, weight=3, zone="south"),
]


def read(kind: str, name: str = "orders", service: str = "orders") -> Any:
    resource = encode_resource(kind, name, service, RECORDS)
    response = discovery_pb2.DiscoveryResponse.FromString(
        encode_sotw(Response(kind, "1", [resource]), "v")
    )
    (packed,) = response.resources
    message = CLASSES[kind]()
    assert packed.Unpack(message)
    return message


def test_a_listener_leads_to_the_routes_and_has_the_filter_that_grpc_needs() -> None:
    listener = read(LDS, "orders.team-a:80", "team-a/orders")
    manager = http_connection_manager_pb2.HttpConnectionManager()

    assert listener.name == "orders.team-a:80"
    assert listener.api_listener.api_listener.Unpack(manager)
    assert manager.rds.route_config_name == "orders.team-a"
    assert manager.rds.config_source.HasField("ads")
    assert [each.name for each in manager.http_filters] == ["router"]


def test_the_routes_lead_everything_to_the_cluster() -> None:
    (host,) = read(RDS, "orders.team-a", "team-a/orders").virtual_hosts

    assert list(host.domains) == ["*"]
    (route,) = host.routes
    assert route.match.prefix == ""
    assert route.match.HasField("prefix")
    assert route.route.cluster == "orders.team-a"


def test_a_cluster_takes_its_endpoints_from_the_same_stream() -> None:
    cluster = read(CDS, "orders.team-a", "team-a/orders")

    assert cluster.type == cluster_pb2.Cluster.EDS
    assert cluster.eds_cluster_config.service_name == "orders.team-a"
    assert cluster.eds_cluster_config.eds_config.HasField("ads")
    assert cluster.common_lb_config.healthy_panic_threshold.value == 0


def test_endpoints_have_addresses_health_and_weights() -> None:
    assignment = read(EDS)

    north, south = assignment.endpoints
    assert assignment.cluster_name == "orders"
    assert (north.locality.zone, north.load_balancing_weight.value) == ("north", 2)
    assert (south.locality.zone, south.load_balancing_weight.value) == ("south", 3)
    told = [
        (
            each.endpoint.address.socket_address.address,
            each.endpoint.address.socket_address.port_value,
            each.health_status,
            each.load_balancing_weight.value,
        )
        for locality in assignment.endpoints
        for each in locality.lb_endpoints
    ]
    assert told == [("10.0.0.1", 8080, 1, 2), ("10.0.0.2", 8080, 3, 2), ("::1", 8080, 1, 3)]


def test_no_zone_is_a_locality_without_names_and_not_none() -> None:
    resource = encode_resource(EDS, "orders", "orders", [record("a")])
    assignment = endpoint_pb2.ClusterLoadAssignment.FromString(
        discovery_pb2.DiscoveryResponse.FromString(encode_sotw(Response(EDS, "1", [resource]), "v"))
        .resources[0]
        .value
    )

    assert assignment.endpoints[0].HasField("locality")


@pytest.mark.parametrize("kind", IN_ORDER)
def test_a_version_is_that_of_the_content(kind: str) -> None:
    versions = {
        encode_resource(kind, "orders", "orders", records).version
        for records in (RECORDS, RECORDS[::-1], RECORDS[:1])
    }

    assert len(versions) == (2 if kind == EDS else 1)


def test_responses_are_read_as_they_were_meant() -> None:
    # Lengths around those at which a length takes one byte more.
    some = [encode_resource(RDS, "o" * n, "orders", ()) for n in (1, 30, 63)]
    many = [record(f"i{n}", f"10.0.{n >> 8}.{n & 255}") for n in range(1_000)]
    some.append(encode_resource(EDS, "orders", "orders", many))

    whole = discovery_pb2.DiscoveryResponse.FromString(
        encode_sotw(Response(RDS, "7", some), "c.12")
    )
    assert (whole.version_info, whole.nonce, whole.type_url) == ("c.12", "7", RDS)
    assert [each.SerializeToString() for each in whole.resources] == [each.body for each in some]

    delta = discovery_pb2.DeltaDiscoveryResponse.FromString(
        encode_delta(Response(RDS, "7", some, ["x", "y"]), "c.12")
    )
    assert (delta.system_version_info, delta.nonce, delta.type_url) == ("c.12", "7", RDS)
    assert [
        (each.name, each.version, each.resource.SerializeToString()) for each in delta.resources
    ] == [(each.name, each.version, each.body) for each in some]
    assert list(delta.removed_resources) == ["x", "y"]


def test_requests_are_read_whole() -> None:
    error = status_pb2.Status(code=3, message="no")
    whole = discovery_pb2.DiscoveryRequest(
        type_url=LDS, resource_names=["a", "b"], response_nonce="3", version_info="c.9",
        error_detail=error, node={"id": "n1", "user_agent_name": "envoy"},
    )  # fmt: skip
    delta = discovery_pb2.DeltaDiscoveryRequest(
        type_url=EDS, resource_names_subscribe=["a"], resource_names_unsubscribe=["b"],
        initial_resource_versions={"c": "1"}, response_nonce="3",
    )  # fmt: skip

    assert decode_sotw(whole.SerializeToString()) == (
        SotwRequest(LDS, ("a", "b"), "3", "c.9", "no"), "n1 envoy",
    )  # fmt: skip
    assert decode_delta(delta.SerializeToString()) == (
        DeltaRequest(EDS, ("a",), ("b",), {"c": "1"}, "3", None), "",
    )  # fmt: skip


def test_what_is_no_request_is_refused() -> None:
    with pytest.raises(Invalid, match="DiscoveryRequest"):
        decode_sotw(b"\xff\xff\xff")
