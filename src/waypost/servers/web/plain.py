"""One request, answered or refused, for doors whose protocols tell errors as plain text."""

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from waypost.errors import Overloaded, WaypostError
from waypost.servers.web.refusals import BodyTooLarge, BodyTooSlow, WrongMethod
from waypost.servers.web.requests import ClientGone
from waypost.servers.web.statuses import status_of

log = logging.getLogger("waypost.http")

_INTERNAL: Final = "the server failed at this request, and logged why"


async def answer_plainly(
    perform: Callable[[Request], Awaitable[Response]], scope: Scope, receive: Receive, send: Send
) -> None:
    """Send what ``perform`` makes of the request, or why it could not."""
    try:
        response = await perform(Request(scope, receive))
    except ClientGone:
        return
    except Exception as error:  # noqa: BLE001 - told to the client, and logged
        response = refusal(error)
    await response(scope, receive, send)


def refusal(error: Exception) -> Response:
    """Tell an error; one that is not ours is a bug of ours, logged and told without its insides."""
    if not isinstance(error, WaypostError):
        log.error("a request failed by our own mistake", exc_info=error)
        return Response(_INTERNAL + "\n", 500, media_type="text/plain")
    headers: dict[str, str] = {}
    if isinstance(error, WrongMethod):
        headers["allow"] = error.allow
    if isinstance(error, Overloaded):
        headers["retry-after"] = str(math.ceil(error.retry_after))
    if isinstance(error, BodyTooSlow | BodyTooLarge):
        headers["connection"] = "close"  # the rest of the body is not wanted
    return Response(error.message + "\n", status_of(error), headers, "text/plain")
