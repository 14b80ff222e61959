"""The table of every operation: what is served where, and what it takes and answers.

Requests are routed by it and ``/openapi.json`` is made from it.
"""

from typing import Final

from waypost.catalog.registering import INCARNATION_MAX
from waypost.servers.http import checks, handlers
from waypost.servers.http.backup import CONTENT_TYPE as SNAPSHOT_TYPE
from waypost.servers.http.bodies import (
    Alive,
    Batch,
    BatchReport,
    Done,
    DrainOrder,
    DrainReport,
    HealthReport,
    Ready,
    Registered,
    Registration,
    ServiceAnswer,
    ServicesAnswer,
)
from waypost.servers.http.check_bodies import CheckBody, CheckReport, ChecksAnswer, CheckView
from waypost.servers.http.metrics import CONTENT_TYPE
from waypost.servers.http.operations import Operation, Parameter
from waypost.wire import NodeStatus

SERVICES_PATH: Final = "/api/v1/services"
_INSTANCE: Final = f"{SERVICES_PATH}/{{service}}/instances/{{id}}"
_CHECK: Final = f"{_INSTANCE}/checks/{{check}}"
_REVISION: Final = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
_INCARNATION: Final = {"type": "integer", "minimum": 0, "maximum": INCARNATION_MAX}

OPERATIONS: Final = (
    Operation(
        method="GET",
        path=SERVICES_PATH,
        handler=handlers.list_services,
        summary="List every service",
        answers={200: ServicesAnswer},
    ),
    Operation(
        method="GET",
        path=f"{SERVICES_PATH}/{{service}}",
        handler=handlers.resolve,
        summary="Resolve a service to its instances",
        parameters=(
            Parameter(
                "health",
                "What to resolve to: those that a consumer should use, all, or one health.",
                {"type": "string", "enum": list(handlers.HEALTH_FILTERS), "default": "resolvable"},
            ),
            Parameter("tag", "A tag that the instances have.", is_repeatable=True),
            Parameter("zone", "The zone that they are in."),
            Parameter("version", "The version that they run."),
            Parameter("meta.*", "The value that they have under a key of their meta data."),
            Parameter(
                "consistency",
                "How much the answer may lag: as this node has it, or not at all.",
                {"type": "string", "enum": list(handlers.CONSISTENCIES), "default": "default"},
            ),
            Parameter(
                "max_stale",
                "Refuse rather than answer from older data: 2s, 500ms or seconds.",
                {"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,6})?(ms|s)?$"},
            ),
        ),
        answers={200: ServiceAnswer, 304: None},
    ),
    Operation(
        method="PUT",
        path=_INSTANCE,
        handler=handlers.register,
        summary="Register an instance, or refresh it",
        body=Registration,
        answers={200: Registered, 201: Registered},
    ),
    Operation(
        method="DELETE",
        path=_INSTANCE,
        handler=handlers.deregister,
        summary="Remove an instance",
        parameters=(Parameter("incarnation", "Remove only this life of it.", _INCARNATION),),
        answers={200: Done},
    ),
    Operation(
        method="POST",
        path=f"{_INSTANCE}/renew",
        handler=handlers.renew,
        summary="Keep an instance's lease",
        answers={200: Done},
    ),
    Operation(
        method="POST",
        path=f"{_INSTANCE}/health",
        handler=handlers.set_health,
        summary="Say how an instance is",
        body=HealthReport,
        answers={200: Done},
    ),
    Operation(
        method="POST",
        path=f"{_INSTANCE}/drain",
        handler=handlers.drain,
        summary="Take an instance out of new picks, and wait until every watcher knows",
        body=DrainOrder,
        is_body_optional=True,
        answers={200: DrainReport},
    ),
    Operation(
        method="GET",
        path=f"{_INSTANCE}/checks",
        handler=checks.list_checks,
        summary="The checks of an instance",
        answers={200: ChecksAnswer},
    ),
    Operation(
        method="PUT",
        path=_CHECK,
        handler=checks.put_check,
        summary="Give an instance a health check, or replace one",
        body=CheckBody,
        answers={200: Done},
    ),
    Operation(
        method="GET",
        path=_CHECK,
        handler=checks.show_check,
        summary="A check, and what was found last",
        answers={200: CheckView},
    ),
    Operation(
        method="DELETE",
        path=_CHECK,
        handler=checks.drop_check,
        summary="Take a check away",
        answers={200: Done},
    ),
    Operation(
        method="POST",
        path=f"{_CHECK}/report",
        handler=checks.report_check,
        summary="Say what a check found",
        body=CheckReport,
        answers={200: Done},
    ),
    Operation(
        method="POST",
        path="/api/v1/batch",
        handler=handlers.batch,
        summary="Do many changes at once",
        body=Batch,
        answers={200: BatchReport},
    ),
    Operation(
        method="GET",
        path="/api/v1/watch",
        handler=handlers.watch,
        summary="Follow services as server-sent events",
        parameters=(
            Parameter("service", "A service to follow; none follows all.", is_repeatable=True),
            Parameter("since", "Tell what changed after this revision.", _REVISION),
        ),
        answers={200: "text/event-stream"},
    ),
    Operation(
        method="GET",
        path="/api/v1/status",
        handler=handlers.status,
        summary="How this node is",
        answers={200: NodeStatus},
    ),
    Operation(
        method="GET",
        path="/api/v1/snapshot",
        handler=handlers.snapshot,
        summary="Everything that the registry holds, as a file to restore from",
        parameters=(
            Parameter(
                "consistency",
                "Whether it has all that was acknowledged before, or what this node knows.",
                {"type": "string", "enum": list(handlers.CONSISTENCIES), "default": "default"},
            ),
        ),
        answers={200: SNAPSHOT_TYPE},
    ),
    Operation(
        method="GET",
        path="/healthz",
        handler=handlers.healthz,
        summary="Whether the process answers",
        answers={200: Alive},
    ),
    Operation(
        method="GET",
        path="/readyz",
        handler=handlers.readyz,
        summary="Whether the node takes writes",
        answers={200: Ready},
    ),
    Operation(
        method="GET",
        path="/metrics",
        handler=handlers.metrics,
        summary="What the node counts, for Prometheus",
        answers={200: CONTENT_TYPE},
    ),
    Operation(
        method="GET",
        path="/openapi.json",
        handler=handlers.openapi,
        summary="The description of this API",
        answers={200: "application/json"},
    ),
    Operation(
        method="GET",
        path="/",
        handler=handlers.page,
        summary="The services, live, for people",
        answers={200: "text/html; charset=utf-8"},
    ),
)
