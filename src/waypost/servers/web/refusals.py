"""What may be wrong with a request over HTTP before anybody knows what it asks for.

Each door tells these in the words of its own protocol.
"""

from collections.abc import Iterable

from waypost.errors import Invalid


class UnknownRoute(Invalid):
    """Nothing is served at that path."""

    code = "not-found"


class WrongMethod(Invalid):
    """The path is served, and not with that method."""

    code = "method-not-allowed"

    def __init__(self, method: str, allowed: Iterable[str]) -> None:
        self.allow = ", ".join(sorted(allowed))
        super().__init__(f"{method[:20]} is not allowed here: use {self.allow}", field="method")


class CrossSite(Invalid):
    """A page of another site tries to change something here, by way of somebody's browser."""

    code = "cross-site"


class BodyTooSlow(Invalid):
    """The body did not arrive in time."""

    code = "body-too-slow"


class BodyTooLarge(Invalid):
    """The body is larger than is taken."""

    code = "body-too-large"


class UrlTooLong(Invalid):
    """The path and query are longer than is taken."""

    code = "url-too-long"


class HeadTooLarge(Invalid):
    """The headers are larger than is taken."""

    code = "headers-too-large"
