"""Errors as RFC 9457 problem documents: what failed, and what the caller can do about it.

Every error that leaves this door is one of these, also for an unknown route.  ``code`` is stable
and is what programs should look at; ``type`` is the same as a URN.
"""

import logging
import math
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response

from waypost.errors import Invalid, Overloaded, Unavailable, WaypostError
from waypost.servers.web.refusals import BodyTooLarge, BodyTooSlow, WrongMethod
from waypost.servers.web.statuses import status_of

log = logging.getLogger("waypost.http")

PROBLEM_TYPE: Final = "application/problem+json"
_encode = msgspec.json.Encoder().encode


class Problem(msgspec.Struct, frozen=True, gc=False):
    """A problem document (RFC 9457), with the members that Waypost adds."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    """Whether the same request may be sent again."""
    field: str | UnsetType = UNSET
    """Which part of the request is wrong."""
    retry_after: float | UnsetType = UNSET
    """After how many seconds to try again."""


class NotReady(Unavailable):
    """The node does not take writes now."""

    code = "not-ready"


def problem_of(error: Exception) -> Problem:
    """Tell an error; one that is not ours is a bug of ours, logged and told without its insides."""
    if not isinstance(error, WaypostError):
        log.error("a request failed by our own mistake", exc_info=error)
        return _problem(500, "internal", "the server failed at this request, and logged why", False)
    return _problem(
        status_of(error),
        error.code,
        error.message,
        error.retryable,
        field=error.field if isinstance(error, Invalid) and error.field else UNSET,
        retry_after=error.retry_after if isinstance(error, Overloaded) else UNSET,
    )


def problem_response(error: Exception) -> Response:
    """Answer with an error."""
    problem = problem_of(error)
    headers: dict[str, str] = {}
    if isinstance(error, WrongMethod):
        headers["allow"] = error.allow
    if problem.retry_after is not UNSET:
        headers["retry-after"] = str(math.ceil(problem.retry_after))
    if isinstance(error, BodyTooSlow | BodyTooLarge):
        headers["connection"] = "close"  # the rest of the body is not wanted
    return Response(_encode(problem), problem.status, headers, PROBLEM_TYPE)


def _problem(
    status: int,
    code: str,
    detail: str,
    retryable: bool,
    *,
    field: str | UnsetType = UNSET,
    retry_after: float | UnsetType = UNSET,
) -> Problem:
    return Problem(
        type=f"urn:waypost:error:{code}",
        title=code.replace("-", " ").capitalize(),
        status=status,
        detail=detail,
        code=code,
        retryable=retryable,
        field=field,
        retry_after=retry_after,
    )
