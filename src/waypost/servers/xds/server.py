"""Listens for xDS: gRPC's aggregated discovery service, on the node's event loop.

``grpc.aio`` moves bytes in threads of its own, outside of Python, and hands what came to the loop
through a socket; so it lives beside uvloop, and holds nobody up longer than one message takes.
"""

import asyncio
import errno
from typing import Final, cast

import grpc
import grpc.aio

from waypost.errors import Invalid, Overloaded, WaypostError
from waypost.node.node import Node
from waypost.node.registry import Registry
from waypost.servers.xds.delta import DeltaStream
from waypost.servers.xds.messages import decode_delta, decode_sotw, encode_delta, encode_sotw
from waypost.servers.xds.sotw import SotwStream
from waypost.servers.xds.streams import Streams
from waypost.wire import Resolve

SERVICE: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a port that is taken is an error
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
)
_STOP_S: Final = 0.2

_Context = grpc.aio.ServicerContext[bytes, bytes]


class XdsServer:
    """The xDS door of one node."""

    def __init__(self, node: Node, registry: Registry, host: str, port: int) -> None:
        self._node = node
        self._registry = registry
        self._host = host
        self._port = port
        self._server: grpc.aio.Server | None = None
        self.streams = Streams(node)

    async def start(self) -> tuple[str, int]:
        """Listen; returns the host and the port that it got (a port of 0 asks for any).

        Raises ``OSError`` if the address is taken or is not one of this machine.
        """
        server = grpc.aio.server(options=_OPTIONS)
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(self._sotw),
            "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(self._delta),
        }
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, methods),),
        )
        host = f"[{self._host}]" if ":" in self._host else self._host
        try:
            port = server.add_insecure_port(f"{host}:{self._port}")
        except RuntimeError as error:
            raise OSError(errno.EADDRINUSE, f"xDS cannot listen on port {self._port}") from error
        await server.start()
        self._server = server
        self._registry.count_also(self.streams.metrics)
        return self._host, port

    async def stop(self) -> None:
        """Take no more streams, and end those that are open: their clients go elsewhere."""
        if self._server is not None:
            await self._server.stop(_STOP_S)
            self._server = None

    async def _sotw(self, _: object, context: _Context) -> None:
        await _Conversation(self, context, SotwStream(self.streams.shelf)).run()

    async def _delta(self, _: object, context: _Context) -> None:
        await _Conversation(self, context, DeltaStream(self.streams.shelf)).run()

    @property
    def version(self) -> str:
        """Of what is sent now."""
        return f"{self._node.cluster}.{self._node.revision}"

    async def make_fresh(self, version: str) -> None:
        """Wait until this node knows what the client has heard from another, or raise."""
        cluster, _, revision = version.rpartition(".")
        # A node without others is never behind; if it knows less, it started anew.
        if cluster == self._node.cluster and revision.isdecimal() and self._node.native_addresses:
            await self._registry.make_fresh(Resolve("", min_revision=int(revision)))


class _Conversation:
    """One stream and its two directions."""

    def __init__(
        self, server: XdsServer, context: _Context, stream: SotwStream | DeltaStream
    ) -> None:
        self._server = server
        self._context = context
        self.stream = stream
        self._client = ""
        self._due = asyncio.Event()

    def wake(self) -> None:
        """There may be something to send."""
        self._due.set()

    async def run(self) -> None:
        """Talk until the client leaves or the server stops."""
        status: tuple[grpc.StatusCode, str] | None = None
        streams = self._server.streams
        try:
            streams.begin(self)
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(self._write())
                await self._read()
                writing.cancel()
        except* WaypostError as errors:
            status = _status_of(errors.exceptions[0])
        finally:
            streams.end(self)
        if status is not None:
            await self._context.abort(*status)

    async def _read(self) -> None:
        while True:
            data = cast("object", await self._context.read())
            if not isinstance(data, bytes):
                return  # the client has nothing more to say
            await self._receive(data)
            self._due.set()

    async def _receive(self, data: bytes) -> None:
        stream = self.stream
        if isinstance(stream, SotwStream):
            request, client = decode_sotw(data)
            if request.version:
                await self._server.make_fresh(request.version)
            refusal = stream.receive(request)
        else:
            delta, client = decode_delta(data)
            refusal = stream.receive(delta)
        self._client = self._client or client
        if refusal is not None:
            self._server.streams.refusal(refusal, self._client)

    async def _write(self) -> None:
        encode = encode_sotw if isinstance(self.stream, SotwStream) else encode_delta
        while True:
            self._due.clear()
            while (response := self.stream.take()) is not None:
                self._server.streams.responses += 1
                await self._context.write(encode(response, self._server.version))
            await self._due.wait()


def _status_of(error: BaseException) -> tuple[grpc.StatusCode, str]:
    match error:
        case Overloaded():
            return grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)
        case Invalid():
            return grpc.StatusCode.INVALID_ARGUMENT, str(error)
        case _:
            return grpc.StatusCode.UNAVAILABLE, str(error)
