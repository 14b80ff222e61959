"""What an operation of the API is: its method and path, what it takes, answers and does.

The table of them (``routes.OPERATIONS``) is what requests are routed by *and* what
``/openapi.json`` is made from, so neither can say what the other does not.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from waypost.model import check_id, check_service
from waypost.node.registry import Registry
from waypost.servers.http.backup import CONTENT_TYPE as SNAPSHOT_TYPE
from waypost.servers.http.backup import Backups, BackupStream
from waypost.servers.http.metrics import HttpMetrics
from waypost.servers.http.streams import EventStream, Streams
from waypost.servers.web.requests import Parameters


class Door:
    """What operations work with: the registry, and the door's own state."""

    __slots__ = ("backups", "metrics", "openapi", "registry", "streams")

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.metrics = HttpMetrics()
        self.streams = Streams()
        self.backups = Backups()
        self.openapi = b""
        """The document of this very door."""


class Call:
    """One request to an operation, checked as far as that needs no knowledge of the operation."""

    __slots__ = ("check", "door", "id", "query", "request", "service")

    def __init__(self, door: Door, request: Request, query: Parameters) -> None:
        self.door = door
        self.request = request
        self.query = query
        parts: Mapping[str, str] = request.path_params
        self.service = parts.get("service", "")
        if "namespace" in parts:
            self.service = f"{parts['namespace']}/{self.service}"
        self.id = parts.get("id", "")
        self.check = parts.get("check", "")
        if self.service:
            check_service(self.service)
        for one in (self.id, self.check):
            if one:
                check_id(one)

    @property
    def registry(self) -> Registry:
        """The verbs."""
        return self.door.registry


Answer = Response | EventStream | BackupStream
Handler = Callable[[Call, Any], Awaitable[Answer]]
"""Takes the call and the decoded body (None without one)."""


class Parameter(msgspec.Struct, frozen=True):
    """A query parameter."""

    name: str
    description: str
    schema: Mapping[str, Any] = msgspec.field(default_factory=lambda: {"type": "string"})
    is_repeatable: bool = False


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method at one path."""

    method: str
    path: str
    """With ``{service}`` and ``{id}``; a service may have its namespace before a slash."""
    handler: Handler
    summary: str
    answers: Mapping[int, Any]
    """By status: a struct for JSON, or a content type."""
    body: type[msgspec.Struct] | None = None
    is_body_optional: bool = False
    """Whether no body means one of defaults."""
    parameters: tuple[Parameter, ...] = ()

    @property
    def name(self) -> str:
        """What it is called in ``/openapi.json``."""
        return getattr(self.handler, "__name__", "")

    @property
    def is_stream(self) -> bool:
        """Whether its answer is made while it is read."""
        return bool({"text/event-stream", SNAPSHOT_TYPE} & set(map(str, self.answers.values())))
