"""The resources of a service, encoded: listener, routes, cluster and endpoints.

A listener, its routes and its cluster follow from the name alone; only the endpoints follow from
the records.  A resource is encoded once, for all streams; its version is a digest of its content,
the same on every node.

Each is what both gRPC and Envoy take.  What looks superfluous was found necessary: without the
router filter gRPC refuses the listener; without a locality's weight it skips the locality.

Source: gRFC A27, A28 and A42; Envoy's v3 API.
"""

import hashlib
from collections.abc import Collection
from functools import lru_cache
from importlib import import_module
from typing import Any, Final

import msgspec

from waypost.model import Record, ServiceName
from waypost.servers.xds.endpoints import Endpoint, Locality, localities_of
from waypost.servers.xds.fields import field
from waypost.servers.xds.kinds import CDS, EDS, LDS, RDS, Kind
from waypost.servers.xds.names import name_of

CONNECT_TIMEOUT_S: Final = 5
_ENDPOINTS_KEPT: Final = 32_768


class Resource(msgspec.Struct, frozen=True, gc=False):
    """One resource, as it goes into a response."""

    name: str
    version: str
    body: bytes
    """A ``google.protobuf.Any``."""


def encode_resource(
    kind: Kind, name: str, service: ServiceName, records: Collection[Record]
) -> Resource:
    """Make the resource that a client knows as ``name``."""
    value = _ENCODERS[kind](name, service, records)
    body = field(1, kind.encode()) + field(2, value)
    version = hashlib.blake2b(body, digest_size=8).hexdigest()
    return Resource(name, version, body)


def _message(module: str, name: str) -> Any:
    """Find a generated class; they have no types that a checker could know."""
    return getattr(import_module(module), name)


_Any = _message("google.protobuf.any_pb2", "Any")
_Listener = _message("envoy.config.listener.v3.listener_pb2", "Listener")
_RouteConfiguration = _message("envoy.config.route.v3.route_pb2", "RouteConfiguration")
_Cluster = _message("envoy.config.cluster.v3.cluster_pb2", "Cluster")
_Assignment = _message("envoy.config.endpoint.v3.endpoint_pb2", "ClusterLoadAssignment")
_Locality = _message("envoy.config.endpoint.v3.endpoint_components_pb2", "LocalityLbEndpoints")
_Endpoint = _message("envoy.config.endpoint.v3.endpoint_components_pb2", "LbEndpoint")
_ConnectionManager = _message(
    "envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2",
    "HttpConnectionManager",
)
_Router = _message("envoy.extensions.filters.http.router.v3.router_pb2", "Router")

_HttpOptions = _message(
    "envoy.extensions.upstreams.http.v3.http_protocol_options_pb2", "HttpProtocolOptions"
)
_HTTP: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_AS_SPOKEN_TO: Final[dict[str, Any]] = {
    "use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}}
}
_BY_ADS: Final[dict[str, Any]] = {"ads": {}, "resource_api_version": "V3"}


def _encoded(message: Any) -> bytes:
    encoded: bytes = message.SerializeToString(deterministic=True)
    return encoded


def _packed(message: Any) -> Any:
    packed = _Any()
    packed.Pack(message, deterministic=True)
    return packed


def _listener(name: str, service: ServiceName, _: Collection[Record]) -> bytes:
    manager = _ConnectionManager(
        rds={"route_config_name": name_of(service), "config_source": _BY_ADS},
        http_filters=[{"name": "router", "typed_config": _packed(_Router())}],
    )
    return _encoded(_Listener(name=name, api_listener={"api_listener": _packed(manager)}))


def _routes(name: str, service: ServiceName, _: Collection[Record]) -> bytes:
    cluster = name_of(service)
    everything = {
        "name": cluster,
        "domains": ["*"],
        "routes": [{"match": {"prefix": ""}, "route": {"cluster": cluster}}],
    }
    return _encoded(_RouteConfiguration(name=name, virtual_hosts=[everything]))


def _cluster(name: str, service: ServiceName, _: Collection[Record]) -> bytes:
    cluster = _Cluster(
        name=name,
        type="EDS",
        eds_cluster_config={"eds_config": _BY_ADS, "service_name": name_of(service)},
        lb_policy="ROUND_ROBIN",
        connect_timeout={"seconds": CONNECT_TIMEOUT_S},
        # Envoy would send to the unhealthy when few are left; here the registry has decided that
        # already: it holds back mass evictions, and offers a last resort itself.
        common_lb_config={"healthy_panic_threshold": {"value": 0}},
        # To an instance, Envoy speaks what it was spoken to: HTTP/2, so gRPC too, or HTTP/1.
        typed_extension_protocol_options={_HTTP: _packed(_HttpOptions(**_AS_SPOKEN_TO))},
    )
    return _encoded(cluster)


def _assignment(name: str, _: ServiceName, records: Collection[Record]) -> bytes:
    localities = [_locality(locality) for locality in localities_of(records)]
    return _encoded(_Assignment(cluster_name=name)) + b"".join(localities)


def _locality(locality: Locality) -> bytes:
    """One of the ``endpoints`` of an assignment."""
    message = _Locality(
        locality={"zone": locality.zone, "sub_zone": locality.sub_zone},
        load_balancing_weight={"value": locality.weight},
    )
    endpoints = b"".join(map(_endpoint, locality.endpoints))
    return field(2, _encoded(message) + endpoints)


@lru_cache(_ENDPOINTS_KEPT)
def _endpoint(endpoint: Endpoint) -> bytes:
    """One of the ``lb_endpoints`` of a locality."""
    address = {"address": endpoint.host, "port_value": endpoint.port}
    message = _Endpoint(
        endpoint={"address": {"socket_address": address}},
        health_status=endpoint.health,
        load_balancing_weight={"value": endpoint.weight},
    )
    return field(2, _encoded(message))


_ENCODERS: Final = {LDS: _listener, RDS: _routes, CDS: _cluster, EDS: _assignment}
