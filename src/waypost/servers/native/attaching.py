"""Who hears what the log says to an ATTACH or a DETACH, before the client does.

They are told apart from writes by being owners of their own, never by the id of their frame: a
client may give two requests the same.
"""

from typing import Protocol

from waypost.commands import Outcome
from waypost.errors import WaypostError
from waypost.replica.replica import Owner
from waypost.wire import AttachSession


class Holder(Owner, Protocol):
    """The connection that holds a session, or is about to."""

    def attached(
        self, attach: AttachSession, ticket: int, revision: int, outcomes: list[Outcome]
    ) -> None:
        """The session is attached (its outcome is the attachment), or refused."""
        ...

    def not_attached(self, ticket: int, error: WaypostError) -> None:
        """The session is not attached, or nobody knows."""
        ...

    def detached(self, session: str) -> None:
        """The session has ended."""
        ...


class Attaching:
    """The owner of an ``Attach``."""

    __slots__ = ("_attach", "_holder")

    def __init__(self, holder: Holder, attach: AttachSession) -> None:
        self._holder = holder
        self._attach = attach

    def answered(self, ticket: int, revision: int, outcomes: list[Outcome]) -> None:
        """It was committed."""
        self._holder.attached(self._attach, ticket, revision, outcomes)

    def failed(self, ticket: int, error: WaypostError) -> None:
        """It was not, or may not have been."""
        self._holder.not_attached(ticket, error)


class Detaching:
    """The owner of a ``Detach``."""

    __slots__ = ("_holder", "_session")

    def __init__(self, holder: Holder, session: str) -> None:
        self._holder = holder
        self._session = session

    def answered(self, ticket: int, revision: int, outcomes: list[Outcome]) -> None:
        """It was committed, or the session had ended before."""
        self._holder.detached(self._session)
        self._holder.answered(ticket, revision, outcomes)

    def failed(self, ticket: int, error: WaypostError) -> None:
        """It was not, or may not have been: the session stands as far as this node knows."""
        self._holder.failed(ticket, error)
