"""Health checks over HTTP: what each operation does."""

import msgspec
from starlette.responses import Response

from waypost.errors import UnknownCheck
from waypost.servers.http.bodies import Done
from waypost.servers.http.check_bodies import CheckBody, CheckReport, ChecksAnswer, check_view
from waypost.servers.http.operations import Call

_encode = msgspec.json.Encoder().encode


async def put_check(call: Call, body: CheckBody) -> Response:
    """Give an instance a check, or replace one."""
    check = body.check(call.check)
    return _json(
        Done(await call.registry.put_check(call.service, call.id, check, status=body.status))
    )


async def drop_check(call: Call, body: None) -> Response:  # noqa: ARG001
    """Take a check away."""
    return _json(Done(await call.registry.drop_check(call.service, call.id, call.check)))


async def report_check(call: Call, body: CheckReport) -> Response:
    """Say what a check found."""
    revision = await call.registry.report_check(
        call.service, call.id, call.check, body.status, body.output
    )
    return _json(Done(revision))


async def list_checks(call: Call, body: None) -> Response:  # noqa: ARG001
    """Tell the checks of an instance."""
    call.registry.record(call.service, call.id)
    states = call.registry.checks(call.service, call.id)
    answer = ChecksAnswer(revision=call.registry.revision, checks=list(map(check_view, states)))
    return _json(answer)


async def show_check(call: Call, body: None) -> Response:  # noqa: ARG001
    """Tell one check, and what was found last."""
    call.registry.record(call.service, call.id)
    for state in call.registry.checks(call.service, call.id):
        if state.check.id == call.check:
            return _json(check_view(state))
    raise UnknownCheck(
        f"{call.service}/{call.id} has no check {call.check!r}: it is gone, or was never put there"
    )


def _json(answer: msgspec.Struct) -> Response:
    return Response(_encode(answer), 200, media_type="application/json")
