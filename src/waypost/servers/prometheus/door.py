"""``GET /prometheus/sd``: every instance, or those that are asked for, as ``http_sd`` wants them.

Prometheus asks again and again, and keeps the last list when an answer is not a 200: so an error is
told as one, and an empty list only when there is nothing.  Whatever is registered is listed, the
ill ones too, because it is those whose metrics somebody will want; ``health`` asks for less.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from waypost.model import HEALTHS, HealthFilter, Query, check_service
from waypost.node.registry import Registry
from waypost.servers.prometheus.targets import group_of
from waypost.servers.web.plain import answer_plainly
from waypost.servers.web.refusals import UnknownRoute, WrongMethod
from waypost.servers.web.requests import Parameters, check_head
from waypost.wire import Resolve

PATH: Final = "/prometheus/sd"
PARAMETERS: Final = ("service", "tag", "zone", "version", "meta.*", "health")
HEALTH_FILTERS: Final[tuple[HealthFilter, ...]] = ("any", "resolvable", *HEALTHS)
AT_ONCE: Final = 200
"""So many instances are shown before others have their turn: a few milliseconds."""

_encode = msgspec.json.Encoder().encode


class PrometheusDoor:
    """What is mounted under ``/prometheus``."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await answer_plainly(self._perform, scope, receive, send)

    def close(self) -> None:
        """Nothing waits here."""

    async def _perform(self, request: Request) -> Response:
        check_head(request.scope)
        path: str = request.scope["path"]
        if path != PATH:
            raise UnknownRoute(
                f"nothing is served at {path[:200]!r}: Prometheus' http_sd asks {PATH}"
            )
        if request.method not in ("GET", "HEAD"):
            raise WrongMethod(request.method, ("GET", "HEAD"))
        asked = Parameters(request.scope["query_string"], PARAMETERS)
        query = Query(
            health=asked.choice("health", HEALTH_FILTERS, "any"),
            tags=tuple(asked.all("tag")),
            zone=asked.one("zone"),
            version=asked.one("version"),
            meta=asked.pairs("meta."),
        )
        services = asked.all("service")
        for service in services:
            check_service(service)
        names = dict.fromkeys(services) or [s.service for s in self._registry.services().services]
        return Response(await self._groups(names, query), media_type="application/json")

    async def _groups(self, services: Iterable[str], query: Query) -> bytes:
        parts: list[bytes] = []
        for service in services:
            resolved = await self._registry.resolve(Resolve(service, query))
            for record in resolved.records:
                parts.append(_encode(group_of(record)))
                if len(parts) % AT_ONCE == 0:
                    await asyncio.sleep(0)
        return b"[%s]" % b",".join(parts)
