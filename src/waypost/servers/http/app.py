"""From a request to its operation: an ASGI application.

What is asked most, a service without further conditions, linearizable or not, is answered by one
straight line from the registry's cached bytes.  Everything else is routed by path, and within a
path by method; every answer that is not a success is a problem document.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from waypost.errors import Invalid, WaypostError
from waypost.model import PLAIN_QUERY
from waypost.node.registry import Registry
from waypost.servers.http.decoding import decode
from waypost.servers.http.handlers import etag, service_answer
from waypost.servers.http.openapi import document
from waypost.servers.http.operations import Answer, Call, Door, Operation
from waypost.servers.http.problems import problem_response
from waypost.servers.http.routes import OPERATIONS, SERVICES_PATH
from waypost.servers.web.mounted import NOTHING, Mounted
from waypost.servers.web.refusals import UnknownRoute, WrongMethod
from waypost.servers.web.requests import (
    ClientGone,
    Parameters,
    check_head,
    check_origin,
    read_body,
)
from waypost.wire import Resolve

_OF_SERVICES: Final = SERVICES_PATH + "/"
_RESOLVE: Final = _OF_SERVICES + "{service}"
_LINEARIZABLE: Final = b"consistency=linearizable"
_linearizable: Final = Resolve("", PLAIN_QUERY, "linearizable")


class App:
    """The application of one node."""

    def __init__(self, registry: Registry, mounted: Mapping[str, Mounted] = NOTHING) -> None:
        """``mounted``: whose every path under a first segment is, by that segment."""
        self._registry = registry
        self._mounted = mounted
        self._door = Door(registry)
        self._door.openapi = document(OPERATIONS)
        self._metrics = self._door.metrics
        self._requests: set[asyncio.Task[object]] = set()
        self._router = Router(
            [route for resource in self._resources() for route in resource.routes()],
            redirect_slashes=False,
            default=_Nowhere(self._door, "(unknown)", ()),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path: str = scope["path"]
        asked: bytes = scope["query_string"]
        service = ""
        if (
            path.startswith(_OF_SERVICES)
            and (not asked or asked == _LINEARIZABLE)
            and scope["method"] == "GET"
            and self._registry.resolved_json(path[len(_OF_SERVICES) :]) is not None
        ):
            service = path[len(_OF_SERVICES) :]
            if not asked:
                await self._answer_plainly(service, scope, send, time.perf_counter())
                return
        task = asyncio.current_task()
        assert task is not None
        self._requests.add(task)
        try:
            if service:
                await self._answer_linearizably(service, scope, receive, send)
            elif (door := self._mounted.get(path[1:].partition("/")[0])) is not None:
                await door(scope, receive, send)
            else:
                await self._router(scope, receive, send)
        finally:
            self._requests.discard(task)

    async def _answer_linearizably(
        self, service: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        started = time.perf_counter()
        try:
            await self._registry.make_fresh(_linearizable)
        except WaypostError as error:
            response = problem_response(error)
            seconds = time.perf_counter() - started
            self._metrics.observe(_RESOLVE, "GET", response.status_code, seconds)
            await response(scope, receive, send)
            return
        if self._registry.resolved_json(service) is None:  # the last one went meanwhile
            await self._router(scope, receive, send)
        else:
            await self._answer_plainly(service, scope, send, started)

    async def _answer_plainly(self, service: str, scope: Scope, send: Send, started: float) -> None:
        registry = self._registry
        instances = registry.resolved_json(service)
        assert instances is not None, "who calls has looked"
        tag = etag(instances).encode()
        headers = [(b"content-type", b"application/json"), (b"etag", tag)]
        if (b"if-none-match", tag) in scope["headers"]:
            status, body = 304, b""
        else:
            status = 200
            body = service_answer(
                service, registry.revision, registry.age_ms, registry.source, instances
            )
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self._metrics.observe(_RESOLVE, "GET", status, time.perf_counter() - started)

    def close(self) -> None:
        """Let every event stream end, and whatever waits at the doors that share this port."""
        self._door.streams.closing.set()
        for door in self._mounted.values():
            door.close()

    def abandon(self) -> None:
        """Drop the requests that are not over yet."""
        for task in self._requests:
            task.cancel()

    def _resources(self) -> "list[Resource]":
        paths: dict[str, list[Operation]] = {}
        for operation in OPERATIONS:
            paths.setdefault(operation.path, []).append(operation)
        return [Resource(self._door, path, operations) for path, operations in paths.items()]


class Resource:
    """One path and its operations: an ASGI application."""

    def __init__(self, door: Door, path: str, operations: Iterable[Operation]) -> None:
        self._door = door
        self._path = path
        self._by_method = {operation.method: operation for operation in operations}
        get = self._by_method.get("GET")
        if get is not None and not get.is_stream:
            self._by_method["HEAD"] = get

    def routes(self) -> list[Route]:
        """Its path as it is, and with a namespace before the service."""
        paths = [self._path]
        if "{service}" in self._path:
            paths.append(self._path.replace("{service}", "{namespace}/{service}"))
        return [Route(path, self) for path in paths]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Perform the operation that the method names; answer also whatever goes wrong."""
        started = time.perf_counter()
        response: Answer
        try:
            response = await self._perform(Request(scope, receive))
        except ClientGone:
            return
        except WaypostError as error:
            response = problem_response(error)
        except Exception as error:  # noqa: BLE001 - told as a problem, and logged
            response = problem_response(error)
        seconds = time.perf_counter() - started
        method = scope["method"] if scope["method"] in self._by_method else "(other)"
        self._door.metrics.observe(self._path, method, response.status_code, seconds)
        await response(scope, receive, send)

    async def _perform(self, request: Request) -> Answer:
        check_head(request.scope)
        operation = self._by_method.get(request.method)
        if operation is None:
            raise WrongMethod(request.method, self._by_method)
        if request.method not in ("GET", "HEAD"):
            check_origin(request.headers)
        known = [parameter.name for parameter in operation.parameters]
        call = Call(self._door, request, Parameters(request.scope["query_string"], known))
        body = None
        if operation.body is not None:
            content = await read_body(request.receive, request.headers)
            if content:
                body = decode(content, operation.body)
            elif operation.is_body_optional:
                body = operation.body()
            else:
                raise Invalid("body: is required: send a JSON object", field="body")
        return await operation.handler(call, body)


class _Nowhere(Resource):
    """Every path that is not served."""

    async def _perform(self, request: Request) -> Response:
        check_head(request.scope)
        raise UnknownRoute(
            f"nothing is served at {request.scope['path'][:200]!r}: /openapi.json lists what is"
        )
