"""The HTTP status of each error, the same at every door that does not have a status of its own."""

from typing import Final

from waypost.errors import (
    Invalid,
    NoInstance,
    Rejected,
    TimedOut,
    Unavailable,
    UnknownCheck,
    UnknownInstance,
    UnknownNode,
    UnknownService,
    UnknownSession,
    WaypostError,
)
from waypost.servers.web.refusals import (
    BodyTooLarge,
    BodyTooSlow,
    CrossSite,
    HeadTooLarge,
    UnknownRoute,
    UrlTooLong,
    WrongMethod,
)

STATUSES: Final[dict[type[WaypostError], int]] = {
    CrossSite: 403,
    UnknownRoute: 404,
    UnknownService: 404,
    UnknownInstance: 404,
    UnknownCheck: 404,
    UnknownNode: 404,
    UnknownSession: 404,
    NoInstance: 404,
    WrongMethod: 405,
    BodyTooSlow: 408,
    Rejected: 409,
    BodyTooLarge: 413,
    UrlTooLong: 414,
    HeadTooLarge: 431,
    Invalid: 400,
    TimedOut: 504,
    Unavailable: 503,
    WaypostError: 500,
}


def status_of(error: WaypostError) -> int:
    """Its status; an error that is not listed has that of its nearest ancestor."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
