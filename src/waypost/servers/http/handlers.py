"""What each operation does.

A handler translates and decides nothing: it reads what the request says, calls one verb of the
registry, and tells the outcome.  Refusals are raised, and become problem documents in ``app``.
"""

import asyncio
from collections.abc import Coroutine
from importlib import resources
from typing import Any, Final

import msgspec
from starlette.responses import Response

from waypost.errors import UnknownInstance, UnknownService, WaypostError
from waypost.model import HEALTHS, HealthFilter, Query, Revision, Source, check_service
from waypost.servers.http.backup import BackupStream
from waypost.servers.http.bodies import (
    Alive,
    Batch,
    BatchItem,
    BatchReport,
    BatchResult,
    DeregisterItem,
    Done,
    DrainOrder,
    DrainReport,
    HealthReport,
    Ready,
    Registered,
    RegisterItem,
    Registration,
    RenewItem,
    ServicesAnswer,
    ServiceView,
    SetHealthItem,
    check_incarnation,
)
from waypost.servers.http.metrics import CONTENT_TYPE, exposition, family
from waypost.servers.http.operations import Call
from waypost.servers.http.problems import NotReady, problem_of
from waypost.servers.http.streams import EventStream
from waypost.servers.web.requests import read_number
from waypost.views import instance_view
from waypost.wire import Consistency, Resolve

DIAL_BACK_S: Final = 0.25

_encode = msgspec.json.Encoder().encode
_PAGE: Final = resources.files("waypost.servers.http").joinpath("page.html").read_bytes()
HEALTH_FILTERS: Final[tuple[HealthFilter, ...]] = ("resolvable", "any", *HEALTHS)
CONSISTENCIES: Final[tuple[Consistency, ...]] = ("default", "linearizable")


# Writes


async def register(call: Call, body: Registration) -> Response:
    """Register an instance, or refresh it."""
    instance = body.instance(call.service, call.id)
    is_new = not _is_known(call)
    done = await call.registry.register(
        instance, ttl_ms=body.ttl_ms, health=body.health, why=body.why, checks=body.own_checks()
    )
    warnings = await _dial_back(call)
    answer = Registered(done.revision, done.incarnation, body.ttl, warnings)
    return _json(answer, 201 if is_new else 200)


async def renew(call: Call, body: None) -> Response:  # noqa: ARG001
    """Keep an instance's lease."""
    return _json(Done(await call.registry.renew(call.service, call.id)))


async def set_health(call: Call, body: HealthReport) -> Response:
    """Say how an instance is."""
    body.check()
    revision = await call.registry.set_health(
        call.service, call.id, body.health, body.why, body.incarnation
    )
    return _json(Done(revision))


async def drain(call: Call, body: DrainOrder) -> Response:
    """Take an instance out of new picks, and wait until every watcher has seen it go."""
    drained = await call.registry.drain(call.service, call.id, body.deadline_ms)
    return _json(DrainReport(drained.revision, drained.watchers, drained.unseen))


async def deregister(call: Call, body: None) -> Response:  # noqa: ARG001
    """Remove an instance."""
    incarnation = call.query.number("incarnation")
    check_incarnation(incarnation)
    return _json(Done(await call.registry.deregister(call.service, call.id, incarnation)))


async def batch(call: Call, body: Batch) -> Response:
    """Do many changes at once.

    All are offered before the event loop turns, so they share one log entry.
    """
    body.check()
    results = await asyncio.gather(*(_result(_perform(call, item)) for item in body.items))
    revision = max((r.revision for r in results if isinstance(r.revision, int)), default=0)
    return _json(BatchReport(revision or call.registry.revision, list(results)))


async def _perform(call: Call, item: BatchItem) -> BatchResult:
    registry = call.registry
    match item:
        case RegisterItem():
            done = await registry.register(
                item.instance(item.service, item.id),
                ttl_ms=item.ttl_ms,
                health=item.health,
                why=item.why,
                checks=item.own_checks(),
            )
            return BatchResult(200, done.revision, done.incarnation)
        case RenewItem():
            revision = await registry.renew(item.service, item.id)
        case DeregisterItem():
            revision = await registry.deregister(item.service, item.id, item.incarnation)
        case SetHealthItem():
            revision = await registry.set_health(
                item.service, item.id, item.health, item.why, item.incarnation
            )
    return BatchResult(200, revision)


async def _result(work: Coroutine[Any, Any, BatchResult]) -> BatchResult:
    try:
        return await work
    except WaypostError as error:
        problem = problem_of(error)
        return BatchResult(problem.status, error=problem)


def _is_known(call: Call) -> bool:
    try:
        call.registry.record(call.service, call.id)
    except (UnknownService, UnknownInstance):
        return False
    return True


async def _dial_back(call: Call) -> tuple[str, ...]:
    """Warn of an address that cannot be reached from here; never takes long, never fails."""
    client = call.request.client
    try:
        async with asyncio.timeout(DIAL_BACK_S):
            verified = await call.registry.verify(
                call.service, call.id, client.host if client is not None else ""
            )
    except TimeoutError:
        return (f"the advertised address did not answer within {DIAL_BACK_S * 1000:g} ms",)
    except WaypostError as error:  # it was removed meanwhile
        return (error.message,)
    return () if verified.reachable else (verified.why,)


# Reads


async def list_services(call: Call, body: None) -> Response:  # noqa: ARG001
    """Every service, in numbers."""
    listed = call.registry.services()
    views = [ServiceView(s.service, s.instances, s.pickable, s.revision) for s in listed.services]
    return _json(ServicesAnswer(listed.revision, listed.age_ms, listed.source, views))


async def resolve(call: Call, body: None) -> Response:  # noqa: ARG001
    """The instances of a service that meet every condition given."""
    query = call.query
    conditions = Query(
        health=query.choice("health", HEALTH_FILTERS, "resolvable"),
        tags=tuple(query.all("tag")),
        zone=query.one("zone"),
        version=query.one("version"),
        meta=query.pairs("meta."),
    )
    resolved = await call.registry.resolve(
        Resolve(
            call.service,
            conditions,
            query.choice("consistency", CONSISTENCIES, "default"),
            query.duration_ms("max_stale", -1),
        )
    )
    if not resolved.known:
        raise UnknownService(
            f"no instance of {call.service!r} is registered: check the name, or register one"
        )
    instances = _encode([instance_view(record) for record in resolved.records])
    headers = {"etag": etag(instances)}
    if call.request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return Response(
        service_answer(
            call.service, resolved.revision, resolved.age_ms, resolved.source, instances
        ),
        headers=headers,
        media_type="application/json",
    )


def service_answer(
    service: str, revision: Revision, age_ms: int, source: Source, instances: bytes
) -> bytes:
    """Write a ``ServiceAnswer`` around instances that are encoded already."""
    return b'{"service":"%b","revision":%d,"age_ms":%d,"source":"%b","instances":%b}' % (
        service.encode(),  # a name that has passed the check has nothing to escape
        revision,
        age_ms,
        source.encode(),
        instances,
    )


def etag(instances: bytes) -> str:
    """A tag of a service's instances, encoded; it moves with them and not with the revision.

    Python keeps the hash with the bytes, so that of a cached answer is computed once; it differs
    from process to process, which costs a client of two nodes an answer in full, and nothing else.
    """
    return f'W/"{hash(instances) & 0xFFFF_FFFF_FFFF_FFFF:016x}"'


async def watch(call: Call, body: None) -> EventStream:  # noqa: ARG001
    """Follow services: a snapshot, or what was missed, and then every change, in order."""
    services = frozenset(call.query.all("service"))
    for service in services:
        check_service(service)
    resumed = call.request.headers.get("last-event-id")
    since = call.query.number("since") if resumed is None else read_number("Last-Event-ID", resumed)
    streams = call.door.streams
    streams.admit()
    # Of several services: one watch of all, filtered.  A watch for each would have revisions of its
    # own, and no single id from which all of them could resume.
    alone = next(iter(services)) if len(services) == 1 else ""
    items = call.registry.watch(alone, since)
    return EventStream(streams, items, await anext(items), frozenset() if alone else services)


# The node


async def status(call: Call, body: None) -> Response:  # noqa: ARG001
    """How this node is."""
    return _json(call.registry.status())


async def snapshot(call: Call, body: None) -> BackupStream:  # noqa: ARG001
    """Everything that the registry holds, as a file to restore from."""
    backups = call.door.backups
    backups.admit()
    consistency: Consistency = call.query.choice("consistency", CONSISTENCIES, "default")
    revision, pieces = await call.registry.backup(consistency)
    return BackupStream(backups, revision, pieces)


async def healthz(call: Call, body: None) -> Response:  # noqa: ARG001
    """Whether the process answers."""
    return _json(Alive())


async def readyz(call: Call, body: None) -> Response:  # noqa: ARG001
    """Whether the node takes writes: it has a leader, a disk that works, and has caught up."""
    is_ready, why = call.registry.is_ready()
    if not is_ready:
        raise NotReady(f"not ready: {why}")
    return _json(Ready())


async def metrics(call: Call, body: None) -> Response:  # noqa: ARG001
    """What the node counts, for Prometheus."""
    streams = family(
        "waypost_http_streams", "gauge", "Event streams open.", [({}, call.door.streams.open)]
    )
    own = (*call.door.metrics.lines(), *streams)
    return Response(
        exposition(call.registry.metrics(), own), headers={"content-type": CONTENT_TYPE}
    )


async def openapi(call: Call, body: None) -> Response:  # noqa: ARG001
    """The description of this API."""
    return Response(call.door.openapi, media_type="application/json")


async def page(call: Call, body: None) -> Response:  # noqa: ARG001
    """The services, live, for people."""
    headers = {
        "content-security-policy": "default-src 'none'; connect-src 'self'; img-src data:; "
        "script-src 'unsafe-inline'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        "x-content-type-options": "nosniff",
    }
    return Response(_PAGE, headers=headers, media_type="text/html; charset=utf-8")


def _json(answer: msgspec.Struct, status: int = 200) -> Response:
    return Response(_encode(answer), status, media_type="application/json")
