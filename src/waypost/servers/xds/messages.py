"""Requests out of bytes, and responses into bytes.

A response is put together of resources that are encoded already: one that goes to a thousand
streams is encoded once and copied a thousand times.

Source: Envoy's ``discovery.proto``, for the numbers of the fields.
"""

from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

from waypost.errors import Invalid
from waypost.servers.xds.delta import DeltaRequest
from waypost.servers.xds.fields import field, head
from waypost.servers.xds.resources import Resource
from waypost.servers.xds.sotw import SotwRequest
from waypost.servers.xds.subscription import Response

_discovery: Final[Any] = import_module("envoy.service.discovery.v3.discovery_pb2")
_DecodeError: Final[Any] = import_module("google.protobuf.message").DecodeError


def decode_sotw(data: bytes) -> tuple[SotwRequest, str]:
    """Read a request, and who says it (only the first of a stream has to tell)."""
    message = _parsed(_discovery.DiscoveryRequest, data)
    request = SotwRequest(
        kind=message.type_url,
        names=tuple(message.resource_names),
        nonce=message.response_nonce,
        version=message.version_info,
        error=_error(message),
    )
    return request, _client(message)


def decode_delta(data: bytes) -> tuple[DeltaRequest, str]:
    """Read a request, and who says it (only the first of a stream has to tell)."""
    message = _parsed(_discovery.DeltaDiscoveryRequest, data)
    request = DeltaRequest(
        kind=message.type_url,
        subscribe=tuple(message.resource_names_subscribe),
        unsubscribe=tuple(message.resource_names_unsubscribe),
        initial=dict(message.initial_resource_versions),
        nonce=message.response_nonce,
        error=_error(message),
    )
    return request, _client(message)


def encode_sotw(response: Response, version: str) -> bytes:
    """Write a ``DiscoveryResponse``."""
    return b"".join(
        (
            field(1, version.encode()),
            *_resources(response.resources),
            field(4, response.kind.encode()),
            field(5, response.nonce.encode()),
        )
    )


def encode_delta(response: Response, version: str) -> bytes:
    """Write a ``DeltaDiscoveryResponse``."""
    return b"".join(
        (
            field(1, version.encode()),
            *_versioned(response.resources),
            field(4, response.kind.encode()),
            field(5, response.nonce.encode()),
            *(field(6, name.encode()) for name in response.removed),
        )
    )


def _parsed(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except _DecodeError:
        raise Invalid(f"{len(data)} bytes are not a {kind.DESCRIPTOR.name}") from None


def _error(message: Any) -> str | None:
    return message.error_detail.message if message.HasField("error_detail") else None


def _client(message: Any) -> str:
    node = message.node
    return " ".join(filter(None, (node.id, node.user_agent_name)))


def _resources(resources: list[Resource]) -> Iterator[bytes]:
    for resource in resources:
        yield head(2, len(resource.body))
        yield resource.body


def _versioned(resources: list[Resource]) -> Iterator[bytes]:
    for resource in resources:
        before = field(1, resource.version.encode()) + head(2, len(resource.body))
        after = field(3, resource.name.encode())
        yield head(2, len(before) + len(resource.body) + len(after))
        yield before
        yield resource.body
        yield after
