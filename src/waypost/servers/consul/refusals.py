"""Errors in Consul's words: a status, and a line of plain text.

Clients read both: the status for what to do, and some the text for why.
"""

import logging
import math
from typing import Final

from waypost.errors import (
    Invalid,
    Overloaded,
    Rejected,
    Unavailable,
    UnknownInstance,
    UnknownService,
    UnknownSession,
    WaypostError,
)
from waypost.servers.consul.replies import PLAIN, Header, Reply
from waypost.servers.web.refusals import (
    BodyTooLarge,
    BodyTooSlow,
    CrossSite,
    HeadTooLarge,
    UrlTooLong,
)

log = logging.getLogger("waypost.consul")

_STATUSES: Final[dict[type[WaypostError], int]] = {
    CrossSite: 403,
    UnknownService: 404,
    UnknownInstance: 404,
    UnknownSession: 404,
    BodyTooSlow: 408,
    BodyTooLarge: 413,
    UrlTooLong: 414,
    HeadTooLarge: 431,
    Overloaded: 429,
    Invalid: 400,
    Rejected: 500,
    Unavailable: 500,
}


class Refusal(WaypostError):
    """A request that Consul would refuse, with the status and the words that it would use."""

    code = "refused"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NotMethod(Refusal):
    """The path is served, and not with that method."""

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(405, f"method {method[:20]} not allowed")
        self.allowed = allowed


class NoLeader(Unavailable):
    """Nobody leads, and the answer was to be certain: ``?stale`` would have been answered."""


def refused(error: Exception) -> Reply:
    """What goes back for an error."""
    if isinstance(error, Refusal):
        headers = [(b"allow", error.allowed.encode())] if isinstance(error, NotMethod) else []
        return Reply(error.message.encode(), error.status, PLAIN, headers)
    if isinstance(error, WaypostError):
        status = next((_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES), 500)
        more: list[Header] = []
        if isinstance(error, Overloaded):
            more.append((b"retry-after", b"%d" % math.ceil(error.retry_after)))
        if isinstance(error, BodyTooSlow | BodyTooLarge):
            more.append((b"connection", b"close"))  # the rest of the body is not wanted
        return Reply(error.message.encode(), status, PLAIN, more)
    log.error("a request failed by our own mistake", exc_info=error)
    return Reply(b"internal error: the log of this node says more", 500, PLAIN)
