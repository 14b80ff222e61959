"""A door that shares the HTTP port: an ASGI application for every path under its own.

It answers all that comes there, errors in the words of its protocol included.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol

from starlette.types import Receive, Scope, Send


class Mounted(Protocol):
    """Such a door."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        ...

    def close(self) -> None:
        """The node stops: answer now whatever waits, and let nothing wait any more."""
        ...


NOTHING: Final[Mapping[str, Mounted]] = MappingProxyType({})
"""No such door."""
