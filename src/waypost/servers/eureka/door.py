"""Eureka's REST operations: from a path to what is done and told.

Clients append ``apps/…`` to what their users configured: so everything is served below ``/eureka``
and below ``/eureka/v2``, with a slash at the end or without.  What Eureka demands of its answers is
kept to the letter, because its clients look at nothing else: 204 and no body for a registration,
404 for a heartbeat that should become a registration, XML to whoever does not ask for JSON.

An override is kept as the reason of the instance's health.  A provider that registers again is
read at the catalog's latest revision first, so that it undoes no override that was acknowledged.

Source: Netflix/eureka wiki, "Eureka REST operations"; ``com.netflix.eureka.resources``.
"""

import re
import zlib
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from waypost.errors import (
    Invalid,
    Rejected,
    UnknownInstance,
    UnknownService,
    UnknownSession,
)
from waypost.model import Health, InstanceId, ServiceName, check_ttl
from waypost.node.registry import Registry
from waypost.servers.eureka.info import InstanceInfo, info_of, read_status
from waypost.servers.eureka.listing import Listing, What, is_worth_packing, pack
from waypost.servers.eureka.names import id_of, service_of
from waypost.servers.eureka.showing import Form
from waypost.servers.eureka.translating import (
    WHY_OWN_DRAIN,
    WHY_UNKNOWN,
    dirty_ms_of,
    health_of,
    instance_of,
    overridden,
    override_of,
    overriding,
    own_meta,
)
from waypost.servers.eureka.xml import parse
from waypost.servers.web.plain import answer_plainly
from waypost.servers.web.refusals import BodyTooLarge, UnknownRoute, WrongMethod
from waypost.servers.web.requests import BODY_BYTES_MAX, check_head, check_origin, read_body
from waypost.wire import Resolve

ROOT: Final = "eureka"
_GZIP: Final = 31
_MILLIS = re.compile(r"[0-9]{1,18}")
_LATEST: Final = Resolve("", consistency="linearizable")
_MEDIA: Final[dict[Form, str]] = {"json": "application/json", "xml": "application/xml"}
_ADDRESSES: Final = {"vips": "vipAddress", "svips": "secureVipAddress"}

Perform = Callable[[], Awaitable[Response]]


class _Posted(msgspec.Struct, frozen=True, gc=False):
    """The body of a registration in JSON."""

    instance: dict[str, Any]


class EurekaDoor:
    """What is mounted under ``/eureka``."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._listing = Listing(registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await answer_plainly(self._perform, scope, receive, send)

    def close(self) -> None:
        """Nothing waits here."""

    async def _perform(self, request: Request) -> Response:
        check_head(request.scope)
        methods = self._methods(request, _segments(request.scope["raw_path"]))
        if "GET" in methods:
            methods["HEAD"] = methods["GET"]
        perform = methods.get(request.method)
        if perform is None:
            raise WrongMethod(request.method, methods)
        if request.method not in ("GET", "HEAD"):
            check_origin(request.headers)
        return await perform()

    def _methods(self, request: Request, path: list[str]) -> dict[str, Perform]:
        """What may be done at a path, by method."""
        match path:
            case ["apps"]:
                return {"GET": lambda: self._told(request, "all")}
            case ["apps", "delta"]:
                return {"GET": lambda: self._told(request, "delta")}
            case ["apps", app]:
                return {
                    "GET": lambda: self._application(request, app),
                    "POST": lambda: self._register(request, app),
                }
            case ["apps", app, instance]:
                return {
                    "GET": lambda: self._instance(request, app, instance),
                    "PUT": lambda: self._renew(request, app, instance),
                    "DELETE": lambda: self._cancel(app, instance),
                }
            case ["apps", app, instance, "status"]:
                return {
                    "PUT": lambda: self._override(request, app, instance),
                    "DELETE": lambda: self._end_override(request, app, instance),
                }
            case ["apps", app, instance, "metadata"]:
                return {"PUT": lambda: self._merge_metadata(request, app, instance)}
            case ["instances", instance]:
                return {"GET": lambda: self._anywhere(request, instance)}
            case [("vips" | "svips") as kind, address]:
                return {"GET": lambda: self._with_address(request, kind, address)}
            case ["peerreplication", *_]:
                raise UnknownRoute(
                    "no registry of Eureka can be a peer here: let clients name the nodes of this "
                    "one, whichever; they replicate among themselves"
                )
            case _:
                shown = "/".join(path)[:200]
                raise UnknownRoute(
                    f"nothing is served at {shown!r}: Eureka's operations are apps, apps/delta, "
                    "apps/APP, apps/APP/ID, instances/ID, vips/ADDRESS and svips/ADDRESS"
                )

    # Reads

    async def _told(self, request: Request, what: What) -> Response:
        form, gzip = _form(request), _takes_gzip(request)
        body = await self._listing.told(what, form, gzip=gzip)
        headers = {"content-encoding": "gzip"} if gzip else {}
        return Response(body, 200, headers, _MEDIA[form])

    async def _application(self, request: Request, app: str) -> Response:
        found = await self._listing.application(service_of(app), _form(request))
        return await _found(request, found, f"{app!r} has no instance")

    async def _instance(self, request: Request, app: str, instance: str) -> Response:
        found = self._listing.instance(service_of(app), id_of(instance), _form(request))
        return await _found(request, found, f"{app!r} has no instance {instance!r}")

    async def _anywhere(self, request: Request, instance: str) -> Response:
        found = self._listing.anywhere(id_of(instance), _form(request))
        return await _found(request, found, f"there is no instance {instance!r}")

    async def _with_address(self, request: Request, kind: str, address: str) -> Response:
        field = _ADDRESSES[kind]
        found = await self._listing.with_address(field, address, _form(request))
        return await _found(request, found, f"no instance has the {field} {address!r}")

    # Writes

    async def _register(self, request: Request, app: str) -> Response:
        info = _read_info(request, await _body(request))
        if info.app != app.upper():
            raise Invalid(
                f"Mismatched appName, expecting {app.upper()!r} but was {info.app!r}", field="app"
            )
        instance = instance_of(info)
        ttl_ms = info.duration_s * 1000
        check_ttl(ttl_ms)
        await self._registry.make_fresh(_LATEST)
        before = self._declared(instance.service, instance.id)
        override = override_of(*before)
        health, why = overridden(
            info.status, info.overridden if override == "UNKNOWN" else override
        )
        if before == ("draining", WHY_OWN_DRAIN) and health != "draining":
            # Nobody but itself took it out of service: so it may come back by itself.
            await self._registry.set_health(instance.service, instance.id, health, why)
        await self._registry.register(instance, ttl_ms=ttl_ms, health=health, why=why)
        return Response(status_code=204)

    async def _renew(self, request: Request, app: str, instance: str) -> Response:
        try:
            await self._refresh(request, app, instance)
        except (UnknownService, UnknownInstance, UnknownSession) as error:
            # Netflix's client reads any body of this answer as an instance, fails at a text, and
            # then never registers again.
            return Response(status_code=404, headers={"x-waypost-error": error.code})
        return Response()

    async def _refresh(self, request: Request, app: str, instance: str) -> None:
        service, own_id = service_of(app), id_of(instance)
        try:
            await self._registry.renew(service, own_id)
        except (UnknownService, UnknownInstance, UnknownSession):
            raise
        except Rejected as error:  # it came by another door, which keeps it alive
            raise UnknownInstance(error.message) from None
        record = self._registry.record(service, own_id)
        dirty = dict(_query(request)).get("lastDirtyTimestamp", "")
        if self._registry.catalog.declared(record) == ("critical", WHY_UNKNOWN):
            raise UnknownInstance("its override was removed: register it again to say how it is")
        if _MILLIS.fullmatch(dirty) and 0 < dirty_ms_of(record) < int(dirty):
            raise UnknownInstance("it has changed since it registered: register it again")

    async def _cancel(self, app: str, instance: str) -> Response:
        await self._registry.deregister(service_of(app), id_of(instance))
        return Response()

    async def _override(self, request: Request, app: str, instance: str) -> Response:
        value = dict(_query(request)).get("value", "")
        health, why = overriding(read_status(value, "value"))
        await self._registry.set_health(service_of(app), id_of(instance), health, why)
        return Response()

    async def _end_override(self, request: Request, app: str, instance: str) -> Response:
        value = dict(_query(request)).get("value", "UNKNOWN")
        health, why = health_of(read_status(value, "value"))
        await self._registry.set_health(service_of(app), id_of(instance), health, why)
        return Response()

    async def _merge_metadata(self, request: Request, app: str, instance: str) -> Response:
        pairs = own_meta(dict(_query(request)))
        await self._registry.merge_meta(service_of(app), id_of(instance), pairs)
        return Response()

    def _declared(self, service: ServiceName, instance_id: InstanceId) -> tuple[Health, str]:
        """How an instance is without its checks, and why; passing if there is none."""
        try:
            return self._registry.catalog.declared(self._registry.record(service, instance_id))
        except (UnknownService, UnknownInstance):
            return "passing", ""


def _segments(raw_path: bytes) -> list[str]:
    """A path's segments below the door; a slash within one may be escaped."""
    try:
        segments = [unquote(part, errors="strict") for part in raw_path.decode("ascii").split("/")]
    except UnicodeDecodeError:
        raise Invalid(
            "url: the path is not UTF-8 once it is percent-decoded", field="url"
        ) from None
    segments = segments[1:]
    assert segments[0] == ROOT, "it is mounted there"
    below = segments[2:] if segments[1:2] == ["v2"] else segments[1:]
    return below[:-1] if below and not below[-1] else below


def _query(request: Request) -> list[tuple[str, str]]:
    """The parameters; which of them are known is different for each client, and none is needed."""
    query: bytes = request.scope["query_string"]
    try:
        return parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise Invalid(
            "url: the query is not UTF-8 once it is percent-decoded", field="url"
        ) from None


def _form(request: Request) -> Form:
    return "json" if "json" in request.headers.get("accept", "").lower() else "xml"


def _takes_gzip(request: Request) -> bool:
    return "gzip" in request.headers.get("accept-encoding", "").lower()


async def _found(request: Request, body: bytes | None, missing: str) -> Response:
    if body is None:
        raise UnknownInstance(missing)
    headers: dict[str, str] = {}
    if _takes_gzip(request) and is_worth_packing(body):
        body, headers = await pack(body), {"content-encoding": "gzip"}
    return Response(body, 200, headers, _MEDIA[_form(request)])


async def _body(request: Request) -> bytes:
    body = await read_body(request.receive, request.headers)
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding == "identity":
        return body
    if encoding != "gzip":
        raise Invalid(
            f"content-encoding: {encoding[:40]!r} is not taken: send gzip, or as it is",
            field="content-encoding",
        )
    unpacker = zlib.decompressobj(_GZIP)
    try:
        body = unpacker.decompress(body, BODY_BYTES_MAX)
    except zlib.error as error:
        raise Invalid(f"body: not gzip: {error}", field="body") from None
    if unpacker.unconsumed_tail:
        raise BodyTooLarge(
            f"body: unpacked, at most {BODY_BYTES_MAX} bytes are taken", field="body"
        )
    if not unpacker.eof:
        raise Invalid("body: the gzip ends too early", field="body")
    return body


def _read_info(request: Request, body: bytes) -> InstanceInfo:
    if not body.strip():
        raise Invalid("body: is required: send an instance, as JSON or as XML", field="body")
    if "xml" in request.headers.get("content-type", "").lower() or body.lstrip()[:1] == b"<":
        root, fields = parse(body)
        if root != "instance":
            raise Invalid(f"body: <instance> is expected, not <{root[:80]}>", field="body")
        return info_of(fields)
    try:
        return info_of(msgspec.json.decode(body, type=_Posted).instance)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(
            f'body: {{"instance": {{...}}}} is expected: {str(error)[:200]}', field="body"
        ) from None
